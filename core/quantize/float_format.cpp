// Normal numbers are rounded on their bits: the carry out of a mantissa moves the exponent on as it should. Below the
// smallest normal number the grid is even, and arithmetic on the magnitude rounds to it; the subnormal numbers of bf16
// are those of fp32, cut off like the others. Both are computed for every value and one is taken, without branches;
// only IEEE operations are used, so that all instruction sets agree.
#include "core/quantize/float_format.hpp"

#include "core/error.hpp"
#include "core/simd.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace dither {
namespace {

constexpr std::uint32_t kSign = 0x80000000U;
constexpr int kMinScaleExponent = -100;
constexpr int kMaxScaleExponent = 126;
/// Bits of a mantissa that e5m2, the shortest one, drops.
constexpr unsigned kMostDropped = 21;

/// A format as the loops see it, in units of the scale.
struct Rule {
    float inverse_scale;
    float scale;
    float largest;
    float smallest_normal;
    float subnormal_unit;  ///< the distance of subnormal numbers
    unsigned dropped;      ///< bits of an fp32 mantissa that the format lacks
};

Rule rule_of(FloatFormat format, float scale) {
    const FloatLimits limits = limits_of(format);
    const float smallest_normal = std::ldexp(1.0F, limits.min_exponent);
    return {.inverse_scale = 1 / scale,
            .scale = scale,
            .largest = limits.largest,
            .smallest_normal = smallest_normal,
            .subnormal_unit = std::ldexp(smallest_normal, -limits.mantissa_bits),
            .dropped = static_cast<unsigned>(std::numeric_limits<float>::digits - 1 - limits.mantissa_bits)};
}

/// kSubnormal: whether the format's subnormal numbers are others than fp32's, so that a second grid is needed.
template <bool kSubnormal>
struct Nearest {
    Rule rule;
    std::uint32_t half = (1U << (rule.dropped - 1)) - 1;
    float shift = rule.subnormal_unit * 0x1p23F;  ///< adding and taking it away rounds to multiples of the unit

    [[gnu::always_inline]] float operator()(float magnitude, std::size_t) const {
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(magnitude);
        const std::uint32_t odd = bits >> rule.dropped & 1U;
        const float normal = std::bit_cast<float>((bits + half + odd) >> rule.dropped << rule.dropped);
        if constexpr (!kSubnormal)
            return normal;
        const float subnormal = (magnitude + shift) - shift;
        return magnitude < rule.smallest_normal ? subnormal : normal;
    }
};

template <bool kSubnormal>
struct Stochastic {
    Rule rule;
    const std::uint16_t* random;
    unsigned excess = kMostDropped - rule.dropped;
    float fixed_point = 0x1p16F / rule.subnormal_unit;

    [[gnu::always_inline]] float operator()(float magnitude, std::size_t i) const {
        const std::uint32_t draw = random[i];
        // As the upper bits of what is dropped; where that is more than 16 bits, in the middle of the draw's interval.
        const std::uint32_t noise = (2 * draw + 1) << (kMostDropped - 17) >> excess;
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(magnitude);
        const float normal = std::bit_cast<float>((bits + noise) >> rule.dropped << rule.dropped);
        if constexpr (!kSubnormal)
            return normal;
        // In fixed point, 16 bits behind the point.
        const float low = magnitude < rule.smallest_normal ? magnitude : 0.0F;
        const auto fixed = static_cast<std::int32_t>(low * fixed_point + 0.5F);
        const float subnormal =
            static_cast<float>((fixed + static_cast<std::int32_t>(draw)) >> 16) * rule.subnormal_unit;
        return magnitude < rule.smallest_normal ? subnormal : normal;
    }
};

template <typename Round>
[[gnu::always_inline]] inline std::size_t round_values(const float* x, float* out, std::size_t n, const Rule rule,
                                                       const Round round) {
    std::uint32_t clipped = 0;
#pragma GCC ivdep
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(x[i] * rule.inverse_scale);
        const float magnitude = std::bit_cast<float>(bits & ~kSign);
        clipped += magnitude > rule.largest ? 1U : 0U;
        const float rounded = round(magnitude > rule.largest ? rule.largest : magnitude, i);
        out[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(rounded) | (bits & kSign)) * rule.scale;
    }
    return clipped;
}

DITHER_CLONES std::size_t nearest(const float* x, float* out, std::size_t n, const Rule& rule) {
    return round_values(x, out, n, rule, Nearest<true>{rule});
}

DITHER_CLONES std::size_t stochastic(const float* x, const std::uint16_t* random, float* out, std::size_t n,
                                     const Rule& rule) {
    return round_values(x, out, n, rule, Stochastic<true>{rule, random});
}

DITHER_CLONES std::size_t nearest_bf16(const float* x, float* out, std::size_t n, const Rule& rule) {
    return round_values(x, out, n, rule, Nearest<false>{rule});
}

DITHER_CLONES std::size_t stochastic_bf16(const float* x, const std::uint16_t* random, float* out, std::size_t n,
                                          const Rule& rule) {
    return round_values(x, out, n, rule, Stochastic<false>{rule, random});
}

void check_scale(float scale) {
    require(scale >= std::ldexp(1.0F, kMinScaleExponent) && scale <= std::ldexp(1.0F, kMaxScaleExponent) &&
                scale == std::ldexp(1.0F, std::ilogb(scale)),
            "a scale of {}, expected a power of two from 2^{} to 2^{}", scale, kMinScaleExponent, kMaxScaleExponent);
}

}  // namespace

FloatLimits limits_of(FloatFormat format) {
    switch (format) {
        case FloatFormat::bf16:
            return {7, -126, 0x1.fep127F};
        case FloatFormat::fp16:
            return {10, -14, 65504};
        case FloatFormat::e4m3:
            return {3, -6, 448};
        case FloatFormat::e5m2:
            break;
    }
    return {2, -14, 57344};
}

float choose_float_scale(float magnitude, FloatFormat format) {
    require(magnitude >= 0 && std::isfinite(magnitude), "a magnitude of {}, expected a finite one", magnitude);
    if (magnitude == 0 || format == FloatFormat::bf16)
        return 1;
    const double largest = limits_of(format).largest;
    const int exponent = std::ilogb(static_cast<double>(magnitude) / largest);
    const bool fits = magnitude <= std::ldexp(largest, exponent);
    return std::ldexp(1.0F, std::max(fits ? exponent : exponent + 1, kMinScaleExponent));
}

std::size_t round_nearest(std::span<const float> x, std::span<float> out, FloatFormat format, float scale) {
    require(x.size() == out.size(), "rounding of {} values into {}", x.size(), out.size());
    check_scale(scale);
    const auto round = format == FloatFormat::bf16 ? nearest_bf16 : nearest;
    return round(x.data(), out.data(), x.size(), rule_of(format, scale));
}

std::size_t round_stochastic(std::span<const float> x, std::span<const std::uint16_t> random, std::span<float> out,
                             FloatFormat format, float scale) {
    require(x.size() == out.size() && x.size() == random.size(), "rounding of {} values into {} by {} draws", x.size(),
            out.size(), random.size());
    check_scale(scale);
    const auto round = format == FloatFormat::bf16 ? stochastic_bf16 : stochastic;
    return round(x.data(), random.data(), out.data(), x.size(), rule_of(format, scale));
}

}  // namespace dither
