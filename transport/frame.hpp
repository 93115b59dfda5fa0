// The frame that carries a message: a fixed little-endian header, then the body. README.md has it byte by byte.
//
//     0  magic "DTHR"   4  u16 protocol version   6  u8 message type   7  u8 flags (0)   8  u64 body length
//     16 u32 CRC32C of the body   20  u32 CRC32C of bytes 0..19
#pragma once

#include "transport/messages.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dither {

inline constexpr std::size_t kFrameHeaderBytes = 24;
inline constexpr std::uint16_t kProtocolVersion = 7;

struct FrameHeader {
    std::uint8_t type = 0;
    std::uint64_t body_bytes = 0;
    std::uint32_t body_crc = 0;
};

/// What a peer may say at this point; everything beyond is refused before memory is spent on it.
struct FrameLimits {
    std::uint64_t body_bytes = std::uint64_t{64} << 10;  ///< 64 KiB before a peer is admitted
    std::uint32_t layers = 4096;                         ///< layers of a plan or a report

    /// Once the model is known: body_bytes = 64 KiB + 4 * parameters + 132 * layers, which holds the largest payload of
    /// every codec and the words around it.
    static FrameLimits for_model(std::size_t parameters, std::size_t layers);
    /// What a node lets its aggregator say: models of up to 2^30 parameters in 4096 layers, and beside one its control
    /// variate and a change.
    static FrameLimits for_node();
};

std::vector<std::byte> encode_frame(const Message& message);
std::array<std::byte, kFrameHeaderBytes> encode_header(const FrameHeader& header);
/// Throws FormatError on a wrong magic, version, type, flag or checksum, and on a length over the limit.
FrameHeader decode_header(std::span<const std::byte> header, const FrameLimits& limits);
/// Throws FormatError on a wrong checksum or on a body that does not say exactly one valid message of the header's
/// type. The body's memory becomes that of a large payload, so that there is never a second one.
Message decode_body(const FrameHeader& header, std::vector<std::byte> body, const FrameLimits& limits);
/// A whole frame at once, likewise.
Message decode_frame(std::vector<std::byte> frame, const FrameLimits& limits);

}  // namespace dither
