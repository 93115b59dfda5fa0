// The hyperbolic tangent without calls and without fused multiply-adds: it vectorizes, and every processor gives the
// same bits. Private to core/layers.
#pragma once

#include <bit>
#include <cstdint>

namespace dither::detail {

/// e^x for 0 <= x <= 20. Reduction to |r| <= log(2) / 2 by a multiple of log(2) in two parts (Cody, Waite, "Software
/// manual for the elementary functions", 1980, chapter 6), then Taylor's polynomial of degree 7: the rest is below
/// 1e-8.
[[gnu::always_inline]] inline float exp_of(float x) {
    constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    const float shifted = x * 1.44269504F + kRound;
    const float n = shifted - kRound;
    const float r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
    float p = 1.0F / 5040;
    p = p * r + 1.0F / 720;
    p = p * r + 1.0F / 120;
    p = p * r + 1.0F / 24;
    p = p * r + 1.0F / 6;
    p = p * r + 0.5F;
    p = p * r + 1.0F;
    p = p * r + 1.0F;
    const std::uint32_t exponent = std::bit_cast<std::uint32_t>(shifted) << 23;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(p) + exponent);
}

/// |x| < 0.625: the fifth convergent of Lambert's continued fraction x / (1 + x^2 / (3 + x^2 / (5 + ...))) (1768),
/// whose error is below 1e-9; above, (e^2x - 1) / (e^2x + 1), which is 1 in fp32 from 10 on.
[[gnu::always_inline]] inline float tanh_of(float x) {
    constexpr std::uint32_t kSign = 0x80000000U;
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
    const float magnitude = std::bit_cast<float>(bits & ~kSign);
    const float bounded = magnitude > 10.0F ? 10.0F : magnitude;
    const float s = bounded * bounded;
    const float small_top = bounded * (945.0F + s * (105.0F + s));
    const float small_bottom = 945.0F + s * (420.0F + s * 15.0F);
    const float power = exp_of(2.0F * bounded);
    const float large_top = power - 1.0F;
    const float large_bottom = power + 1.0F;
    const bool small = bounded < 0.625F;
    const float value = (small ? small_top : large_top) / (small ? small_bottom : large_bottom);
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | (bits & kSign));
}

}  // namespace dither::detail
