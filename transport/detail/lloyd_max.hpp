// The scalar quantizers of least squared error for a standard normal variable: every threshold is midway between two
// levels, and every level the mean of its cell (Lloyd 1957, published in IEEE Transactions on Information Theory 1982;
// Max, "Quantizing for minimum distortion", 1960).
#pragma once

#include <span>

namespace dither::detail {

inline constexpr unsigned kMostLloydMaxBits = 8;

/// The 2^(bits - 1) positive levels, ascending; the others are their negatives. bits in 1 .. kMostLloydMaxBits.
std::span<const float> lloyd_max_levels(unsigned bits);

}  // namespace dither::detail
