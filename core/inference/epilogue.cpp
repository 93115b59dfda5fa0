// Every loop is compiled for each instruction set; only operations whose result does not depend on the vector width are
// used, and none is contracted.
#include "core/inference/detail/epilogue.hpp"

#include "core/layers/detail/tanh.hpp"
#include "core/simd.hpp"

#include <bit>
#include <cmath>

namespace dither::epilogue {
namespace {

/// Adding and taking away 1.5 * 2^23 rounds to an integer, ties to even, for |x| < 2^22.
constexpr float kRoundingShift = 12582912.0F;
/// Values that are encoded at once: either by multiplication or, all of them, by division.
constexpr std::size_t kBlock = 128;
/// A product with the inverse and a quotient differ by at most 3 roundings of a number up to 256: 256 * 3 * 2^-24. A
/// code that is nearer than that to the middle between two must be found by division.
constexpr float kTieMargin = 0x1p-14F;
constexpr std::int32_t kMagnitude = 0x7fffffff;  // the bits of a float but its sign

struct Sums {
    const std::int32_t* sums;
    const float* factor;
    const float* bias;
    [[gnu::always_inline]] float operator()(std::size_t i) const {
        return static_cast<float>(sums[i]) * factor[i] + bias[i];
    }
};

struct Floats {
    const float* x;
    [[gnu::always_inline]] float operator()(std::size_t i) const { return x[i]; }
};

template <bool Affine, bool Add, typename Source>
[[gnu::always_inline]] inline void run(const Source& source, const Constants& c, const float* other, std::size_t count,
                                       float* y) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < count; ++i) {
        float value = source(i);
        if constexpr (Affine)
            value = (value - c.mean[i]) * c.scale[i] + c.shift[i];
        if constexpr (Add)
            value = value + other[i];
        const float above = value < c.low ? c.low : value;
        y[i] = above > c.high ? c.high : above;
    }
}

template <typename Source>
[[gnu::always_inline]] inline void run_any(const Source& source, const Constants& c, const float* other,
                                           std::size_t count, float* y) {
    if (c.mean != nullptr && other != nullptr)
        run<true, true>(source, c, other, count, y);
    else if (c.mean != nullptr)
        run<true, false>(source, c, other, count, y);
    else if (other != nullptr)
        run<false, true>(source, c, other, count, y);
    else
        run<false, false>(source, c, other, count, y);
}

[[gnu::always_inline]] inline float code_of(float quotient, const Coder& coder) {
    const float below = quotient < coder.high ? quotient : coder.high;
    return below > coder.low ? below : coder.low;
}

[[gnu::always_inline]] inline float round_even(float x) {
    return (x + kRoundingShift) - kRoundingShift;
}

[[gnu::always_inline]] inline void divide(const float* y, const Coder& coder, std::size_t count, std::uint8_t* codes) {
    for (std::size_t i = 0; i < count; ++i) {
        const float code = round_even(code_of(y[i] / coder.scale, coder));
        codes[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(code) + coder.zero_point);
    }
}

/// Whether no value came too near to a tie. The shift leaves the code in the low bits.
[[gnu::always_inline]] inline bool multiply(const float* __restrict y, const Coder& coder, std::size_t count,
                                            std::uint8_t* __restrict codes) {
    const float shift = kRoundingShift + static_cast<float>(coder.zero_point);
    std::int32_t farthest = 0;  // from a code: magnitudes compare as their bits do
    for (std::size_t i = 0; i < count; ++i) {
        const float exact = code_of(y[i] * coder.inverse, coder);
        const float shifted = exact + shift;
        const std::int32_t distance = std::bit_cast<std::int32_t>(exact - (shifted - shift)) & kMagnitude;
        farthest = distance > farthest ? distance : farthest;
        codes[i] = static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(shifted));
    }
    return std::bit_cast<float>(farthest) <= 0.5F - kTieMargin;
}

}  // namespace

DITHER_CLONES
void finish(const std::int32_t* sums, const Constants& constants, const float* other, std::size_t count, float* y) {
    run_any(Sums{sums, constants.factor, constants.bias}, Constants(constants), other, count, y);
}

DITHER_CLONES
void finish(const float* x, const Constants& constants, const float* other, std::size_t count, float* y) {
    run_any(Floats{x}, Constants(constants), other, count, y);
}

Coder::Coder(const ActivationGrid& grid)
    : scale(grid.scale),
      inverse(std::isnormal(1 / grid.scale) ? 1 / grid.scale : 0),
      low(static_cast<float>(grid.lowest - grid.zero_point)),
      high(static_cast<float>(grid.highest() - grid.zero_point)),
      zero_point(grid.zero_point) {}

DITHER_CLONES
void encode(const float* y, const Coder& coder, std::size_t count, std::uint8_t* codes) {
    const Coder c = coder;
    for (std::size_t begin = 0; begin < count; begin += kBlock) {
        const std::size_t size = count - begin < kBlock ? count - begin : kBlock;
        if (c.inverse == 0 || !multiply(y + begin, c, size, codes + begin))
            divide(y + begin, c, size, codes + begin);
    }
}

DITHER_CLONES
void halve(const std::int32_t* __restrict sums, std::size_t width, std::size_t channels,
           std::int32_t* __restrict largest) {
    const std::int32_t* below = sums + 2 * width * channels;
    for (std::size_t x = 0; x < width; ++x) {
        const std::int32_t* upper = sums + 2 * x * channels;
        const std::int32_t* lower = below + 2 * x * channels;
        for (std::size_t c = 0; c < channels; ++c) {
            const std::int32_t top = upper[c] > upper[c + channels] ? upper[c] : upper[c + channels];
            const std::int32_t bottom = lower[c] > lower[c + channels] ? lower[c] : lower[c + channels];
            largest[x * channels + c] = top > bottom ? top : bottom;
        }
    }
}

DITHER_CLONES
void tanh(const float* x, std::size_t count, float* y) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < count; ++i)
        y[i] = detail::tanh_of(x[i]);
}

}  // namespace dither::epilogue
