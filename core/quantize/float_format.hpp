// Floating-point formats of 8 and 16 bits, simulated in fp32: rounding fp32 values to the values of a narrower format.
//
//     format  sign, exponent, mantissa   smallest normal   smallest   largest
//     bf16    1, 8, 7                    2^-126            2^-133     3.39e38
//     fp16    1, 5, 10                   2^-14             2^-24      65504
//     e4m3    1, 4, 3                    2^-6              2^-9       448
//     e5m2    1, 5, 2                    2^-14             2^-16      57344
//
// bf16 is the upper half of an fp32 number, fp16 is binary16 of IEEE 754, and the 8-bit formats are those of
// Micikevicius et al., "FP8 formats for deep learning", 2022, and of the OCP 8-bit floating point specification (OFP8),
// 2023; e4m3 has no infinities. All have subnormal numbers. Magnitudes above the largest saturate, in every format.
//
// A product of two such values is exact in fp32 (at most 22 bits of mantissa), short of overflow and underflow. So fp32
// arithmetic on the rounded values differs from units of the format with fp32 sums in the order of those sums alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace dither {

enum class FloatFormat : std::uint8_t { bf16, fp16, e4m3, e5m2 };

struct FloatLimits {
    int mantissa_bits = 0;  ///< stored ones; normal numbers have a leading 1 besides
    int min_exponent = 0;   ///< the smallest normal number is 2^min_exponent
    float largest = 0;

    bool operator==(const FloatLimits&) const = default;
};

FloatLimits limits_of(FloatFormat format);

/// The smallest power of two that brings values of up to `magnitude` (>= 0, finite) into the format's range: magnitude
/// / scale <= largest < 2 * magnitude / scale. It is what lets gradients, small as they are, use a range as narrow as
/// that of fp16 or fp8 (Micikevicius et al. 2022, section 4, whose scales need not be powers of two; with powers of
/// two, scaling rounds nothing). Not below 2^-100, so that every scaled value is a normal fp32 number. 1 for a
/// magnitude of 0, and for bf16, which has the range of fp32.
float choose_float_scale(float magnitude, FloatFormat format);

/// out[i] = scale * (the format's value nearest to x[i] / scale), ties to the even mantissa; `scale` is a power of two
/// in [2^-100, 2^126]. Returns how many values were clipped: |x[i]| / scale > largest; infinities are. x holds no NaN;
/// out may be x.
std::size_t round_nearest(std::span<const float> x, std::span<float> out, FloatFormat format, float scale = 1);

/// The same to one of the two values around x[i] / scale, by the uniform random bits random[i]: E[out[i]] = x[i] up to
/// 2^-17 of their distance, exactly for bf16. Values of the format stay.
std::size_t round_stochastic(std::span<const float> x, std::span<const std::uint16_t> random, std::span<float> out,
                             FloatFormat format, float scale = 1);

}  // namespace dither
