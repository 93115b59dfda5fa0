// Written without branches and calls, so that the loops vectorize: there may be a range for every few values.
#include "core/quantize/detail/grids.hpp"

#include "core/error.hpp"
#include "core/simd.hpp"

#include <bit>

namespace dither {
namespace {

/// Adding and taking away 1.5 * 2^52 rounds to an integer, ties to even, for |x| < 2^51.
constexpr double kRoundingShift = 0x1.8p52;

/// The smallest power of two that is not below `scale`, a positive normal number; 2^127 at most.
[[gnu::always_inline]] inline float raised(float scale) {
    constexpr std::uint32_t kMantissa = 0x007fffff;
    constexpr std::uint32_t kLargest = 0x7f000000;
    const std::uint32_t bits = (std::bit_cast<std::uint32_t>(scale) + kMantissa) & ~kMantissa;
    return std::bit_cast<float>(bits < kLargest ? bits : kLargest);
}

/// `top` is the largest code, counted from zero (symmetric) or from the lowest one (affine).
template <Symmetry kSymmetry>
[[gnu::always_inline]] inline ScaleZero scale_for(const ClipRange& range, double top, bool power_of_two) {
    const double low = range.low < 0 ? static_cast<double>(range.low) : 0.0;
    const double high = range.high > 0 ? static_cast<double>(range.high) : 0.0;
    const double width = kSymmetry == Symmetry::affine ? high - low : (-low > high ? -low : high);
    // A subnormal scale would lose its precision, and a range below it is zero for every practical purpose.
    constexpr float kSmallest = std::numeric_limits<float>::min();
    const auto exact = static_cast<float>(width / top);
    const float bounded = exact < kSmallest ? kSmallest : exact;
    const float chosen = width == 0 ? 1.0F : bounded;
    const float scale = power_of_two ? raised(chosen) : chosen;
    if (kSymmetry == Symmetry::symmetric)
        return {scale, 0};
    const double rounded = (-low / static_cast<double>(scale) + kRoundingShift) - kRoundingShift;
    return {scale, static_cast<std::int32_t>(rounded > top ? top : rounded)};
}

template <Symmetry kSymmetry>
[[gnu::always_inline]] inline void choose(const ClipRange* ranges, std::size_t n, double top, bool power_of_two,
                                          ScaleZero* grids) {
    for (std::size_t g = 0; g < n; ++g)
        grids[g] = scale_for<kSymmetry>(ranges[g], top, power_of_two);
}

DITHER_CLONES void choose_symmetric(const ClipRange* ranges, std::size_t n, double top, bool power_of_two,
                                    ScaleZero* grids) {
    choose<Symmetry::symmetric>(ranges, n, top, power_of_two, grids);
}

DITHER_CLONES void choose_affine(const ClipRange* ranges, std::size_t n, double top, bool power_of_two,
                                 ScaleZero* grids) {
    choose<Symmetry::affine>(ranges, n, top, power_of_two, grids);
}

DITHER_CLONES void widen_symmetric(ClipRange* clip, const ScaleZero* grids, std::size_t n, float top) {
    for (std::size_t g = 0; g < n; ++g) {
        const float data = -clip[g].low > clip[g].high ? -clip[g].low : clip[g].high;
        const float reach = grids[g].scale * top;
        const float bound = data > reach ? data : reach;
        clip[g] = {-bound, bound};
    }
}

DITHER_CLONES void widen_affine(ClipRange* clip, const ScaleZero* grids, std::size_t n, std::int32_t top) {
    for (std::size_t g = 0; g < n; ++g) {
        const float low = grids[g].scale * static_cast<float>(-grids[g].zero_point);
        const float high = grids[g].scale * static_cast<float>(top - grids[g].zero_point);
        clip[g] = {clip[g].low < low ? clip[g].low : low, clip[g].high > high ? clip[g].high : high};
    }
}

}  // namespace

void choose_grids(std::span<const ClipRange> ranges, int bits, const QuantizerOptions& options,
                  std::span<ScaleZero> grids) {
    require(bits >= 2 && bits <= 16, "quantization to {} bits, expected 2..16", bits);
    const auto choose = options.symmetry == Symmetry::symmetric ? choose_symmetric : choose_affine;
    choose(ranges.data(), ranges.size(), code_range(bits, options.symmetry, 0).high, options.power_of_two,
           grids.data());
}

ScaleZero choose_scale(float low, float high, int bits, Symmetry symmetry) {
    require(std::isfinite(low) && std::isfinite(high), "quantization range [{}, {}] is not finite", low, high);
    const ClipRange range{low, high};
    ScaleZero grid;
    choose_grids({&range, 1}, bits, {.symmetry = symmetry}, {&grid, 1});
    return grid;
}

float next_power_of_two(float scale) {
    return raised(scale);
}

void widen_to_codes(std::span<ClipRange> clip, std::span<const ScaleZero> grids, int bits, Symmetry symmetry) {
    const int top = code_range(bits, symmetry, 0).high;
    if (symmetry == Symmetry::symmetric)
        widen_symmetric(clip.data(), grids.data(), clip.size(), static_cast<float>(top));
    else
        widen_affine(clip.data(), grids.data(), clip.size(), top);
}

void spread_grids(std::span<const ScaleZero> grids, std::span<const ClipRange> clip, int bits, Symmetry symmetry,
                  std::size_t count, float* arrays) {
    const CodeRange symmetric = code_range(bits, symmetry, 0);
    const auto affine = static_cast<std::int32_t>(symmetry == Symmetry::affine);
    for (std::size_t g = 0; g < grids.size(); ++g) {
        arrays[g] = grids[g].scale;
        arrays[g + count] = static_cast<float>(symmetric.low - affine * grids[g].zero_point);
        arrays[g + 2 * count] = static_cast<float>(symmetric.high - affine * grids[g].zero_point);
        arrays[g + 3 * count] = clip[g].low;
        arrays[g + 4 * count] = clip[g].high;
    }
    for (std::size_t array = 0; array < kGridArrays; ++array, arrays += count)
        for (std::size_t g = grids.size(); g < count; g += grids.size())
            std::copy_n(arrays, grids.size(), arrays + g);
}

}  // namespace dither
