// The bytes of a client's file of residuals; README.md describes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace dither::detail {

/// Fills `residual` with that of round `counted` from the bytes of `client`'s file; returns false, and leaves it, if
/// they have none of that round. Throws FormatError unless they are exactly such a file of residual.size() parameters.
bool read_residual(std::span<const std::byte> file, std::uint32_t client, std::uint32_t counted,
                   std::span<float> residual);

}  // namespace dither::detail
