// One sender's frames, put together from the parts in which they arrive: the header, then the body in any number of
// pieces.
#pragma once

#include "core/error.hpp"
#include "transport/frame.hpp"

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace dither::detail {

class FrameAssembler {
public:
    /// Where the next part, of `size` bytes, belongs; valid until arrived(). A part that does not fit is given memory,
    /// too, so that it can be received, and is refused when it has arrived. Memory grows with what arrives, not with
    /// what a header promises.
    std::span<std::byte> place(std::size_t size) {
        fits_ = size == kFrameHeaderBytes;
        if (!header_ && fits_)
            return header_bytes_;
        if (header_)
            fits_ = size <= header_->body_bytes - body_.size();
        body_.resize(body_.size() + size);
        return std::span(body_).last(size);
    }

    /// The part that place() was asked for has arrived. Returns the frame's message if this was its last. Throws
    /// FormatError on a part that belongs to no frame and on a frame that is not valid; the sender is lost then.
    std::optional<Message> arrived(const FrameLimits& limits) {
        if (!fits_)
            throw FormatError("a part does not fit into its frame");
        if (!header_) {
            header_ = decode_header(header_bytes_, limits);
            body_.reserve(header_->body_bytes);  // addresses, not memory: that comes with what arrives
        }
        if (body_.size() < header_->body_bytes)
            return std::nullopt;
        const FrameHeader header = *std::exchange(header_, std::nullopt);
        wire_bytes_ = kFrameHeaderBytes + body_.size();
        return decode_body(header, std::exchange(body_, {}), limits);
    }

    /// Of the last frame that was complete, header included.
    std::size_t wire_bytes() const { return wire_bytes_; }

private:
    std::array<std::byte, kFrameHeaderBytes> header_bytes_{};
    std::optional<FrameHeader> header_;
    std::vector<std::byte> body_;
    std::size_t wire_bytes_ = 0;
    bool fits_ = false;
};

}  // namespace dither::detail
