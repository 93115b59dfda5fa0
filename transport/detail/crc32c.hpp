// CRC32C (Castagnoli, Brauer, Herrmann, "Optimization of cyclic redundancy-check codes", IEEE Trans. Comm. 1993), as in
// RFC 3720.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace dither::detail {

/// Eight bytes a step, by as many tables (Kounavis and Berry, "A systematic approach to building high performance
/// software-based CRC generators", ISCC 2005).
std::uint32_t crc32c(std::span<const std::byte> bytes);

}  // namespace dither::detail
