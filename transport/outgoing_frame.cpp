#include "transport/detail/outgoing_frame.hpp"

#include "transport/detail/body.hpp"
#include "transport/detail/crc32c.hpp"

#include <algorithm>

namespace dither::detail {

OutgoingFrame::OutgoingFrame(const Message& message) : own_(kFrameHeaderBytes) {
    write_body(message, own_, shared_);
    for (const SharedPiece& piece : shared_)
        shared_bytes_ += piece.bytes.size();
    write_header(message);
}

void OutgoingFrame::write_header(const Message& message) {
    const std::span<const std::byte> own(own_);
    FrameHeader header{.type = type_of(message), .body_bytes = size() - kFrameHeaderBytes, .body_crc = crc32c({})};
    std::size_t position = kFrameHeaderBytes;
    const auto add_own = [&](std::size_t end) {
        const auto bytes = own.subspan(position, end - position);
        header.body_crc = crc32c_joined(header.body_crc, crc32c(bytes), bytes.size());
        position = end;
    };
    for (const SharedPiece& piece : shared_) {
        add_own(piece.at);
        header.body_crc = crc32c_joined(header.body_crc, piece.bytes.checksum(), piece.bytes.size());
    }
    add_own(own.size());
    std::ranges::copy(encode_header(header), own_.begin());
}

std::span<const std::byte> OutgoingFrame::from(std::size_t position) const {
    const std::span<const std::byte> own(own_);
    std::size_t begin = 0;  // of own bytes that lie together
    for (const SharedPiece& piece : shared_) {
        if (position < piece.at - begin)
            return own.subspan(begin + position, piece.at - begin - position);
        position -= piece.at - begin;
        if (position < piece.bytes.size())
            return std::span<const std::byte>(piece.bytes).subspan(position);
        position -= piece.bytes.size();
        begin = piece.at;
    }
    return own.subspan(begin + position);
}

}  // namespace dither::detail
