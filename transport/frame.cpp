#include "transport/frame.hpp"

#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "transport/detail/body.hpp"
#include "transport/detail/crc32c.hpp"

#include <algorithm>
#include <array>

namespace dither {
namespace {

using detail::crc32c;

constexpr std::array kMagic{std::byte{'D'}, std::byte{'T'}, std::byte{'H'}, std::byte{'R'}};
constexpr std::size_t kVersionAt = 4;
constexpr std::size_t kTypeAt = 6;
constexpr std::size_t kFlagsAt = 7;
constexpr std::size_t kLengthAt = 8;
constexpr std::size_t kBodyCrcAt = 16;
constexpr std::size_t kHeaderCrcAt = 20;

template <typename... Args>
void check(bool holds, fmt::format_string<Args...> message, Args&&... args) {
    if (!holds) [[unlikely]]
        throw FormatError(fmt::format(message, std::forward<Args>(args)...));
}

}  // namespace

FrameLimits FrameLimits::for_model(std::size_t parameters, std::size_t layers) {
    // A payload takes at most 4 bytes a parameter and 64 a layer, and a report 68 a layer. A plan takes 5 and its grids
    // 4 each; all parts of one that has several are less than a whole model.
    constexpr std::uint64_t kBytesALayer = 132;
    return {.body_bytes = FrameLimits{}.body_bytes + 4 * std::uint64_t{parameters} + kBytesALayer * layers,
            .layers = static_cast<std::uint32_t>(layers)};
}

FrameLimits FrameLimits::for_node() {
    constexpr std::size_t kParameters = std::size_t{1} << 30;
    return for_model(3 * kParameters, FrameLimits{}.layers);
}

std::vector<std::byte> encode_frame(const Message& message) {
    std::vector<std::byte> frame(kFrameHeaderBytes);
    detail::write_body(message, frame);
    const auto body = std::span(frame).subspan(kFrameHeaderBytes);
    std::ranges::copy(
        encode_header({.type = detail::type_of(message), .body_bytes = body.size(), .body_crc = crc32c(body)}),
        frame.begin());
    return frame;
}

std::array<std::byte, kFrameHeaderBytes> encode_header(const FrameHeader& header) {
    std::array<std::byte, kFrameHeaderBytes> bytes{};
    std::ranges::copy(kMagic, bytes.begin());
    store_little(kProtocolVersion, bytes.data() + kVersionAt);
    store_little(header.type, bytes.data() + kTypeAt);
    store_little(std::uint8_t{0}, bytes.data() + kFlagsAt);
    store_little(header.body_bytes, bytes.data() + kLengthAt);
    store_little(header.body_crc, bytes.data() + kBodyCrcAt);
    store_little(crc32c(std::span(bytes).first<kHeaderCrcAt>()), bytes.data() + kHeaderCrcAt);
    return bytes;
}

FrameHeader decode_header(std::span<const std::byte> header, const FrameLimits& limits) {
    check(header.size() == kFrameHeaderBytes, "a frame's header has {} bytes, not {}", kFrameHeaderBytes,
          header.size());
    check(std::equal(kMagic.begin(), kMagic.end(), header.begin()), "a frame begins with \"DTHR\"");
    const auto version = load_little<std::uint16_t>(header.data() + kVersionAt);
    check(version == kProtocolVersion, "protocol version {} is spoken here, not {}", kProtocolVersion, version);
    check(load_little<std::uint32_t>(header.data() + kHeaderCrcAt) == crc32c(header.first(kHeaderCrcAt)),
          "the header's checksum is wrong");
    const FrameHeader decoded{.type = load_little<std::uint8_t>(header.data() + kTypeAt),
                              .body_bytes = load_little<std::uint64_t>(header.data() + kLengthAt),
                              .body_crc = load_little<std::uint32_t>(header.data() + kBodyCrcAt)};
    check(decoded.type >= 1 && decoded.type <= detail::kMessageTypes, "message type {} is unknown", decoded.type);
    check(header[kFlagsAt] == std::byte{0}, "the header has unknown flags");
    check(decoded.body_bytes <= limits.body_bytes, "a body of {} bytes exceeds the limit of {}", decoded.body_bytes,
          limits.body_bytes);
    return decoded;
}

Message decode_body(const FrameHeader& header, std::vector<std::byte> body, const FrameLimits& limits) {
    check(body.size() == header.body_bytes, "a body has {} bytes, not {}", header.body_bytes, body.size());
    check(crc32c(body) == header.body_crc, "the body's checksum is wrong");
    return detail::read_body(header.type, std::move(body), limits.layers);
}

Message decode_frame(std::vector<std::byte> frame, const FrameLimits& limits) {
    check(frame.size() >= kFrameHeaderBytes, "a frame has at least {} bytes, not {}", kFrameHeaderBytes, frame.size());
    const FrameHeader header = decode_header(std::span(frame).first(kFrameHeaderBytes), limits);
    frame.erase(frame.begin(), frame.begin() + kFrameHeaderBytes);
    return decode_body(header, std::move(frame), limits);
}

}  // namespace dither
