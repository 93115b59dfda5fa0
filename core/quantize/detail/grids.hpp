// From scales and ranges to what the loops take. Private to core/quantize.
#pragma once

#include "core/quantize/detail/kernels.hpp"
#include "core/quantize/quantizer.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace dither {

/// Channels are repeated side by side up to at least so many, so that narrow layers run full vectors too.
inline constexpr std::size_t kPattern = 256;
/// The arrays of kernels::GridArrays.
inline constexpr std::size_t kGridArrays = 5;

/// A whole number of repetitions of `columns` channels.
inline std::size_t pattern_of(std::size_t columns) {
    return columns * ((kPattern + columns - 1) / columns);
}

/// Codes counted from the zero point: q - zero_point.
struct CodeRange {
    int low = 0;
    int high = 0;
};

inline CodeRange code_range(int bits, Symmetry symmetry, int zero_point) {
    if (symmetry == Symmetry::symmetric) {
        const int limit = (1 << (bits - 1)) - 1;
        return {-limit, limit};
    }
    return {-zero_point, (1 << bits) - 1 - zero_point};
}

inline kernels::Grid grid_of(const ScaleZero& scale, const ClipRange& clip, int bits, Symmetry symmetry) {
    const CodeRange codes = code_range(bits, symmetry, scale.zero_point);
    return {scale.scale, static_cast<float>(codes.low), static_cast<float>(codes.high), clip.low, clip.high};
}

/// What the codes reach, and nothing beyond.
inline ClipRange code_reach(const ScaleZero& grid, int bits, Symmetry symmetry) {
    const CodeRange codes = code_range(bits, symmetry, grid.zero_point);
    return {grid.scale * static_cast<float>(codes.low), grid.scale * static_cast<float>(codes.high)};
}

/// The smallest power of two that is not below `scale`, a positive normal number; 2^127 at most.
float next_power_of_two(float scale);

/// Throws the TrainingError that names the first NaN or infinity of x, which holds one.
[[noreturn]] void throw_not_finite(std::span<const float> x);

/// Five arrays of `count` values one after the other.
inline kernels::GridArrays arrays_of(const float* first, std::size_t count) {
    return {first, first + count, first + 2 * count, first + 3 * count, first + 4 * count};
}

/// The same from element `offset` of each array on.
inline kernels::GridArrays from_element(const kernels::GridArrays& grids, std::size_t offset) {
    return {grids.scale + offset, grids.code_low + offset, grids.code_high + offset, grids.clip_low + offset,
            grids.clip_high + offset};
}

/// Writes the grids into five arrays of `count` values one after the other, again and again until they are full; count
/// is a multiple of their number.
void spread_grids(std::span<const ScaleZero> grids, std::span<const ClipRange> clip, int bits, Symmetry symmetry,
                  std::size_t count, float* arrays);

/// The scale and zero point for each range, which is finite and holds 0.
void choose_grids(std::span<const ClipRange> ranges, int bits, const QuantizerOptions& options,
                  std::span<ScaleZero> grids);

/// Widens what was observed to what the codes reach: rounding of scale and zero point must not clip the extremes.
void widen_to_codes(std::span<ClipRange> clip, std::span<const ScaleZero> grids, int bits, Symmetry symmetry);

}  // namespace dither
