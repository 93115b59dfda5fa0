// The bodies of frames: messages through the bounded archive.
#pragma once

#include "transport/detail/outgoing_frame.hpp"
#include "transport/messages.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

namespace dither::detail {

/// Message types on the wire: 1 + the alternative's index. Alternatives are added at the end, never moved.
inline constexpr std::size_t kMessageTypes = std::variant_size_v<Message>;
inline std::uint8_t type_of(const Message& message) {
    return static_cast<std::uint8_t>(message.index() + 1);
}

/// Appends the body to `out`. Throws PreconditionError on a message that every reader would refuse.
void write_body(const Message& message, std::vector<std::byte>& out);
/// Likewise, but for the large shared payloads: these are appended to `shared`, with their places in `out`.
void write_body(const Message& message, std::vector<std::byte>& out, std::vector<SharedPiece>& shared);
/// Throws FormatError unless `body` is exactly one valid message of `type`. Its memory becomes that of a large payload.
Message read_body(std::uint8_t type, std::vector<std::byte> body, std::uint32_t max_layers);

}  // namespace dither::detail
