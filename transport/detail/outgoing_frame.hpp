// A frame on its way out. Its large shared payloads stay where they are: two thousand frames of one broadcast are two
// thousand heads around one model.
#pragma once

#include "transport/frame.hpp"
#include "transport/shared_bytes.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace dither::detail {

/// Bytes that are inserted before own byte `at` of a body; in ascending order of `at`.
struct SharedPiece {
    std::size_t at = 0;
    SharedBytes bytes;
};

class OutgoingFrame {
public:
    /// The bytes of encode_frame(message). Throws PreconditionError on a message that every reader would refuse.
    explicit OutgoingFrame(const Message& message);

    std::size_t size() const { return own_.size() + shared_bytes_; }
    /// Of these, what is in no other frame.
    std::size_t own_bytes() const { return own_.size(); }
    std::span<const SharedPiece> shared() const { return shared_; }
    /// The bytes from `position` on, below size(), as far as they lie together.
    std::span<const std::byte> from(std::size_t position) const;

private:
    void write_header(const Message& message);

    std::vector<std::byte> own_;  ///< the header and the body around the shared pieces, whose `at` counts from here
    std::vector<SharedPiece> shared_;
    std::size_t shared_bytes_ = 0;
};

}  // namespace dither::detail
