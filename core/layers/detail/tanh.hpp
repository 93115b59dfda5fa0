// The hyperbolic tangent without calls and without fused multiply-adds: it vectorizes, and every processor gives the
// same bits. Private to core/layers.
#pragma once

#include "core/detail/exponential.hpp"

#include <bit>
#include <cstdint>

namespace dither::detail {

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
    const float power = exponential(2.0F * bounded);
    const float large_top = power - 1.0F;
    const float large_bottom = power + 1.0F;
    const bool small = bounded < 0.625F;
    const float value = (small ? small_top : large_top) / (small ? small_bottom : large_bottom);
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | (bits & kSign));
}

}  // namespace dither::detail
