// Stochastic rounding onto the multiples of a step:
//
//     q = floor(x / step) + [u < frac(x / step)]        u uniform in {0, 1, ..., 2^24 - 1} / 2^24
//
// so that E[q * step] = x: off by less than 2^-24 steps, because u is a multiple of that, and by one rounding of
// x / step to fp32 (Gupta et al., "Deep learning with limited numerical precision", ICML 2015; Alistarh et al., "QSGD",
// NeurIPS 2017). -x, rounded by 1 - 2^-24 - u, gives -q.
#pragma once

#include "core/rng.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace dither::detail {

inline constexpr float kLargestRatio = 0x1p31F;  ///< |x / step|, exclusive

/// The words whose upper 24 bits are the u of a layer's values, in their order.
inline Stream dither_words(const StreamKey& key, std::size_t layer) {
    StreamKey layer_key = key;
    layer_key.lane = static_cast<std::uint32_t>(layer);
    return Stream(layer_key);
}

/// z = 0, 1, 2, 3, ... for q = 0, -1, 1, -2, ...
constexpr std::uint32_t fold(std::int32_t q) {
    return (static_cast<std::uint32_t>(q) << 1) ^ static_cast<std::uint32_t>(q >> 31);
}
constexpr std::int32_t unfold(std::uint32_t z) {
    return static_cast<std::int32_t>((z >> 1) ^ (0U - (z & 1U)));
}

struct Rounded {
    std::uint32_t used_bits = 0;     ///< the union of all q, folded
    std::uint32_t out_of_range = 0;  ///< not 0 if a ratio was not finite or 2^31 or more
};

/// As many words and codes as values. step > 0.
Rounded round_to_grid(std::span<const float> x, std::span<const std::uint32_t> words, float step,
                      std::span<std::int32_t> q);

}  // namespace dither::detail
