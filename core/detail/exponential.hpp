// e^x without calls and without fused multiply-adds: loops over it vectorize, and every processor gives the same bits.
// Private to core.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <numbers>

namespace dither::detail {

/// Of any float: 0 below -87.33, infinity above 88.72283, NaN of NaN.
/// x = n log(2) + r with |r| <= log(2) / 2, log(2) in two parts so that n log(2) is exact (Cody, Waite, "Software
/// manual for the elementary functions", 1980, chapter 6), and the polynomial of Moshier's Cephes (expf) for e^r.
[[gnu::always_inline]] inline float exponential(float x) {
    constexpr float kShift = 12582912.0F;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    constexpr float kLowest = -87.33F;     // the smallest normal result
    constexpr float kHighest = 88.72283F;
    const float shifted = x * std::numbers::log2e_v<float> + kShift;
    const float n = shifted - kShift;
    const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
    float p = 1.9875691500e-4F;
    p = p * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * (r * r) + r + 1.0F;
    const std::uint32_t power = std::bit_cast<std::uint32_t>(shifted) << 23;
    const float inside = std::bit_cast<float>(std::bit_cast<std::uint32_t>(p) + power);
    const float bounded = x > kHighest ? std::numeric_limits<float>::infinity() : inside;
    const float result = x < kLowest ? 0.0F : bounded;
    return x == x ? result : x;
}

}  // namespace dither::detail
