// One sender's frames, cut out of a stream of bytes that arrives in pieces of any size.
#pragma once

#include "transport/frame.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace dither::detail {

class FrameParser {
public:
    /// Takes bytes from the front of `bytes`, up to the end of a frame or all; returns the message of a frame that has
    /// ended. Throws FormatError on a frame that is not valid, as early as its header says so; the sender is lost then.
    /// Memory grows with what arrives, not with what a header promises.
    std::optional<Message> take(std::span<const std::byte>& bytes, const FrameLimits& limits) {
        if (!header_ && !take_header(bytes, limits))
            return std::nullopt;
        const std::size_t count = std::min<std::size_t>(bytes.size(), header_->body_bytes - body_.size());
        grow(body_.size() + count);
        body_.insert(body_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
        bytes = bytes.subspan(count);
        if (body_.size() < header_->body_bytes)
            return std::nullopt;
        const FrameHeader header = *std::exchange(header_, std::nullopt);
        header_bytes_ = 0;
        wire_bytes_ = kFrameHeaderBytes + body_.size();
        return decode_body(header, std::exchange(body_, {}), limits);
    }

    /// Nothing of the next frame has arrived.
    bool between_frames() const { return header_bytes_ == 0; }
    bool in_body() const { return header_.has_value(); }
    /// Of a body that has not ended.
    std::size_t body_bytes() const { return body_.size(); }
    /// Of the last frame that was complete, header included.
    std::size_t wire_bytes() const { return wire_bytes_; }

private:
    bool take_header(std::span<const std::byte>& bytes, const FrameLimits& limits) {
        const std::size_t count = std::min(bytes.size(), kFrameHeaderBytes - header_bytes_);
        std::copy_n(bytes.begin(), count, buffer_.begin() + static_cast<std::ptrdiff_t>(header_bytes_));
        header_bytes_ += count;
        bytes = bytes.subspan(count);
        if (header_bytes_ < kFrameHeaderBytes)
            return false;
        header_ = decode_header(buffer_, limits);
        return true;
    }

    /// By doubling, but never beyond the body's end: the last step neither copies often nor wastes memory.
    void grow(std::size_t needed) {
        if (needed > body_.capacity())
            body_.reserve(std::min<std::size_t>(header_->body_bytes, std::max(needed, 2 * body_.capacity())));
    }

    std::array<std::byte, kFrameHeaderBytes> buffer_{};
    std::size_t header_bytes_ = 0;  ///< that have arrived
    std::optional<FrameHeader> header_;
    std::vector<std::byte> body_;
    std::size_t wire_bytes_ = 0;
};

}  // namespace dither::detail
