// CRC32C (Castagnoli, Brauer, Herrmann, "Optimization of cyclic redundancy-check codes", IEEE Trans. Comm. 1993), as in
// RFC 3720.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace dither::detail {

/// By the processor's own instruction where it is an x86-64 with SSE4.2, else by tables.
std::uint32_t crc32c(std::span<const std::byte> bytes);
/// Eight bytes a step, by as many tables (Kounavis and Berry, "A systematic approach to building high performance
/// software-based CRC generators", ISCC 2005).
std::uint32_t crc32c_by_tables(std::span<const std::byte> bytes);
/// Of two runs of bytes, one behind the other, from the checksum of each and the length of the second, in
/// O(log second_bytes).
std::uint32_t crc32c_joined(std::uint32_t first, std::uint32_t second, std::uint64_t second_bytes);

}  // namespace dither::detail
