#include "core/vector_math.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>

#include "core/detail/exponential.hpp"
#include "core/error.hpp"
#include "core/simd.hpp"

namespace dither {
namespace {

constexpr std::size_t kLanes = 8;

DITHER_CLONES double lane_squares(const float* v, std::size_t count) {
    std::array<double, kLanes> sums{};
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const double value = v[i + lane];
            sums[lane] += value * value;
        }
    for (std::size_t lane = 0; i < count; ++i, ++lane)
        sums[lane] += static_cast<double>(v[i]) * v[i];
    double total = 0;
    for (const double sum : sums)
        total += sum;
    return total;
}

DITHER_CLONES double lane_blend(float* average, const float* v, std::size_t count, float memory) {
    const float share = 1 - memory;
    std::array<double, kLanes> sums{};
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
#pragma GCC ivdep
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const float x = v[i + lane];
            average[i + lane] = memory * average[i + lane] + share * x;
            sums[lane] += static_cast<double>(x) * x;
        }
    for (std::size_t lane = 0; i < count; ++i, ++lane) {
        average[i] = memory * average[i] + share * v[i];
        sums[lane] += static_cast<double>(v[i]) * v[i];
    }
    double total = 0;
    for (const double sum : sums)
        total += sum;
    return total;
}

DITHER_CLONES void each_difference(float* sum, float factor, const float* a, const float* b, std::size_t count) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < count; ++i)
        sum[i] += factor * (a[i] - b[i]);
}

DITHER_CLONES float lane_magnitudes(const float* v, std::size_t count) {
    std::array<float, kLanes> largest{};
    std::array<float, kLanes> zeros{};  // x * 0 is 0 unless x is infinite or NaN: comparisons alone would drop a NaN
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const float magnitude = std::fabs(v[i + lane]);
            largest[lane] = magnitude > largest[lane] ? magnitude : largest[lane];
            zeros[lane] += v[i + lane] * 0.0F;
        }
    for (std::size_t lane = 0; i < count; ++i, ++lane) {
        const float magnitude = std::fabs(v[i]);
        largest[lane] = magnitude > largest[lane] ? magnitude : largest[lane];
        zeros[lane] += v[i] * 0.0F;
    }
    float result = 0;
    float zero = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        result = largest[lane] > result ? largest[lane] : result;
        zero += zeros[lane];
    }
    return zero == 0.0F ? result : std::numeric_limits<float>::quiet_NaN();
}

DITHER_CLONES bool lane_finite(const float* v, std::size_t count) {
    constexpr std::uint32_t kExponent = 0x7f800000;  // all ones in an infinity and in a NaN, and in no other float
    std::uint32_t bad = 0;
    for (std::size_t i = 0; i < count; ++i)
        bad |= (std::bit_cast<std::uint32_t>(v[i]) & kExponent) == kExponent ? 1U : 0U;
    return bad == 0;
}

DITHER_CLONES void each_exponential(const float* x, float* out, std::size_t count) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < count; ++i)
        out[i] = detail::exponential(x[i]);
}

/// sin x for |x| <= pi / 4: the rest of the series after x^17 is below 2^-62.
double small_sine(double x) {
    double sum = 1;
    for (int k = 8; k >= 1; --k)
        sum = 1 - x * x / (2 * k * (2 * k + 1)) * sum;
    return x * sum;
}

}  // namespace

double squared_norm(std::span<const float> v) {
    return lane_squares(v.data(), v.size());
}

double squared_norm(std::span<const double> v) {
    double sum = 0;
    for (const double value : v)
        sum += value * value;
    return sum;
}

double root_mean_square(std::span<const float> v) {
    return v.empty() ? 0 : std::sqrt(squared_norm(v) / static_cast<double>(v.size()));
}

double blend_and_square(std::span<float> average, std::span<const float> v, float memory) {
    require(average.size() == v.size(), "an average of {} values for {}", average.size(), v.size());
    return lane_blend(average.data(), v.data(), v.size(), memory);
}

void add_difference(std::span<float> sum, float factor, std::span<const float> a, std::span<const float> b) {
    require(sum.size() == a.size() && sum.size() == b.size(), "a difference of {} and {} values for {}", a.size(),
            b.size(), sum.size());
    each_difference(sum.data(), factor, a.data(), b.data(), sum.size());
}

float max_magnitude(std::span<const float> v) {
    return lane_magnitudes(v.data(), v.size());
}

bool all_finite(std::span<const float> v) {
    return lane_finite(v.data(), v.size());
}

void exponentials(std::span<const float> x, std::span<float> out) {
    require(x.size() == out.size(), "exponentials of {} values into {}", x.size(), out.size());
    each_exponential(x.data(), out.data(), x.size());
}

double binary_logarithm(double x) {
    require(x > 0 && std::isfinite(x), "the logarithm of {}", x);
    int exponent = 0;
    double mantissa = std::frexp(x, &exponent);
    if (mantissa < std::numbers::sqrt2 / 2) {
        mantissa *= 2;
        --exponent;
    }
    // ln m = 2 artanh s = 2 (s + s^3 / 3 + s^5 / 5 + ...), |s| < 0.172: the rest after s^21 is below 2^-60.
    const double s = (mantissa - 1) / (mantissa + 1);
    double sum = 0;
    for (int k = 21; k >= 1; k -= 2)
        sum = sum * (s * s) + 1.0 / k;
    return exponent + 2 * std::numbers::log2e * (s * sum);
}

double binary_power(double x) {
    require(std::isfinite(x), "2 to the power of {}", x);
    const double whole = std::nearbyint(std::clamp(x, -2000.0, 2000.0));
    // e^t = 1 + t (1 + t/2 (1 + t/3 (1 + ...))), |t| < 0.347: the rest after t^15 is below 2^-68.
    const double t = std::numbers::ln2 * std::clamp(x - whole, -0.5, 0.5);
    double sum = 1;
    for (int k = 15; k >= 1; --k)
        sum = 1 + t / k * sum;
    return std::ldexp(sum, static_cast<int>(whole));
}

double half_cosine(double t) {
    require(t >= 0 && t <= 1, "half a cosine at {}, which goes from 0 to 1", t);
    if (t > 0.5)
        return 1 - half_cosine(1 - t);
    if (t > 0.25)
        return (1 - small_sine(std::numbers::pi * (0.5 - t))) / 2;
    const double root = small_sine(std::numbers::pi / 2 * t);
    return root * root;
}

}  // namespace dither
