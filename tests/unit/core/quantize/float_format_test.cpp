#include "core/quantize/float_format.hpp"

#include "core/error.hpp"
#include "core/rng.hpp"

#include <doctest/doctest.h>
#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

using namespace dither;

namespace {

constexpr std::array kFormats{FloatFormat::bf16, FloatFormat::fp16, FloatFormat::e4m3, FloatFormat::e5m2};

/// Every value >= 0 of a format in ascending order, by the definition of its codes: entry i has code i.
std::vector<double> codes_of(FloatFormat format) {
    const FloatLimits limits = limits_of(format);
    std::vector<double> values;
    for (int code = 0; values.empty() || values.back() < limits.largest; ++code) {
        const int exponent = code >> limits.mantissa_bits;
        const int mantissa = code - (exponent << limits.mantissa_bits);
        const int leading = exponent > 0 ? 1 << limits.mantissa_bits : 0;
        values.push_back(
            std::ldexp(leading + mantissa, limits.min_exponent + std::max(exponent, 1) - 1 - limits.mantissa_bits));
    }
    return values;
}

/// The nearest of `codes`, by comparing distances.
double reference(const std::vector<double>& codes, double x) {
    const double magnitude = std::min(std::abs(x), codes.back());
    const auto above = static_cast<std::size_t>(std::ranges::lower_bound(codes, magnitude) - codes.begin());
    const std::size_t below = above == 0 ? 0 : above - 1;
    const double up = codes[above] - magnitude;
    const double down = magnitude - codes[below];
    const std::size_t nearest = up < down || (up == down && above % 2 == 0) ? above : below;
    return std::copysign(codes[nearest], x);
}

/// Finite numbers of every exponent.
std::vector<float> bit_patterns(std::size_t count) {
    std::vector<float> values;
    Stream stream({.seed = 7, .purpose = Purpose::test});
    while (values.size() < count)
        if (const auto value = std::bit_cast<float>(stream()); std::isfinite(value))
            values.push_back(value);
    return values;
}

std::vector<float> nearest(const std::vector<float>& x, FloatFormat format, float scale = 1) {
    std::vector<float> out(x.size());
    round_nearest(x, out, format, scale);
    return out;
}

float nearest(float x, FloatFormat format) {
    return nearest(std::vector<float>{x}, format).front();
}

std::vector<std::uint16_t> draws(std::size_t count) {
    std::vector<std::uint16_t> random(count);
    Stream({.seed = 11, .purpose = Purpose::test}).fill_halfwords(random);
    return random;
}

std::vector<float> stochastic(const std::vector<float>& x, FloatFormat format, float scale = 1) {
    std::vector<float> out(x.size());
    round_stochastic(x, draws(x.size()), out, format, scale);
    return out;
}

/// The chance of the upper value, over all draws.
double chance_up(float x, FloatFormat format) {
    std::vector<std::uint16_t> random(65'536);
    for (std::size_t i = 0; i < random.size(); ++i)
        random[i] = static_cast<std::uint16_t>(i);
    std::vector<float> out(random.size());
    round_stochastic(std::vector<float>(random.size(), x), random, out, format);
    const float low = *std::ranges::min_element(out);
    return static_cast<double>(std::ranges::count_if(out, [=](float value) { return value > low; })) / 65'536;
}

}  // namespace

TEST_SUITE("core/quantize/float_format") {
    TEST_CASE("formats have as many values, and as large ones, as their definitions say") {
        CHECK(codes_of(FloatFormat::bf16).size() == 0x7f80);
        CHECK(codes_of(FloatFormat::fp16).size() == 0x7c00);
        CHECK(codes_of(FloatFormat::e4m3).size() == 0x7f);  // 0x7f itself is the NaN
        CHECK(codes_of(FloatFormat::e5m2).size() == 0x7c);
        for (const FloatFormat format : kFormats)
            CHECK(codes_of(format).back() == static_cast<double>(limits_of(format).largest));
    }

    TEST_CASE("every value of a format is its own rounding, whatever the scale") {
        for (const FloatFormat format : kFormats)
            for (const float scale : {1.0F, 0x1p-40F, 0x1p20F}) {
                if (format == FloatFormat::bf16 && scale != 1)
                    continue;
                std::vector<float> values;
                for (const double code : codes_of(format))
                    for (const double sign : {1.0, -1.0})
                        values.push_back(static_cast<float>(sign * code) * scale);
                CHECK(nearest(values, format, scale) == values);
                CHECK(stochastic(values, format, scale) == values);
            }
    }

    TEST_CASE("rounding goes to the nearest value, and a tie to the even one") {
        for (const FloatFormat format : kFormats) {
            const std::vector<double> codes = codes_of(format);
            std::vector<float> x = bit_patterns(100'000);
            for (std::size_t i = 0; i + 1 < codes.size(); ++i) {
                const auto middle = static_cast<float>((codes[i] + codes[i + 1]) / 2);  // exact in fp32
                for (const float value : {std::nextafter(middle, 0.0F), middle, std::nextafter(middle, 1e38F)})
                    x.insert(x.end(), {value, -value});
            }
            const std::vector<float> out = nearest(x, format);
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < x.size(); ++i)
                wrong +=
                    out[i] != static_cast<float>(reference(codes, x[i])) || std::signbit(out[i]) != std::signbit(x[i]);
            CHECK(wrong == 0);
        }
    }

    TEST_CASE("16-bit formats agree with another implementation where that does not overflow") {
        std::size_t wrong = 0;
        for (const float x : bit_patterns(100'000)) {
            const auto half = static_cast<float>(Eigen::half(x));
            const auto brain = static_cast<float>(Eigen::bfloat16(x));
            wrong += std::isfinite(half) && nearest(x, FloatFormat::fp16) != half;
            wrong += std::isfinite(brain) && nearest(x, FloatFormat::bf16) != brain;
        }
        CHECK(wrong == 0);
    }

    TEST_CASE("products of rounded values are exact in fp32") {
        const std::vector<float> x = nearest(bit_patterns(10'000), FloatFormat::bf16);
        for (std::size_t i = 0; i + 1 < x.size(); ++i) {
            const double product = static_cast<double>(x[i]) * x[i + 1];
            if (std::abs(product) > 0x1p-110 && std::abs(product) < 0x1p127)
                CHECK(static_cast<double>(x[i] * x[i + 1]) == product);
        }
    }

    TEST_CASE("what is above the largest value saturates and counts as clipped") {
        for (const FloatFormat format : kFormats) {
            const float largest = limits_of(format).largest;
            const float above = std::nextafter(largest, std::numeric_limits<float>::infinity());
            const std::vector<float> x{largest, -largest,   above, -above, std::numeric_limits<float>::infinity(),
                                       0,       largest / 2};
            std::vector<float> out(x.size());
            CHECK(round_nearest(x, out, format) == 3);
            CHECK(out == std::vector<float>{largest, -largest, largest, -largest, largest, 0, largest / 2});
            CHECK(round_stochastic(x, draws(x.size()), out, format) == 3);
            CHECK(out == std::vector<float>{largest, -largest, largest, -largest, largest, 0, largest / 2});
        }
    }

    TEST_CASE("stochastic rounding takes the upper value with the chance of the fraction") {
        for (const FloatFormat format : kFormats) {
            const std::vector<double> codes = codes_of(format);
            // Among subnormal numbers, where they end, at 1 and in the largest interval.
            const auto one = static_cast<std::size_t>(std::ranges::lower_bound(codes, 1.0) - codes.begin());
            const auto normal = static_cast<std::size_t>(1 << limits_of(format).mantissa_bits);
            for (const std::size_t i : {std::size_t{0}, std::size_t{1}, normal - 1, normal, one, codes.size() - 2})
                for (const double share : {1.0 / 512, 0.25, 0.7}) {
                    const auto x = static_cast<float>(codes[i] + share * (codes[i + 1] - codes[i]));
                    const double exact = (static_cast<double>(x) - codes[i]) / (codes[i + 1] - codes[i]);
                    CAPTURE(x);
                    CHECK(std::abs(chance_up(x, format) - exact) <= 0x1p-16);
                    CHECK(chance_up(-x, format) == doctest::Approx(1 - chance_up(x, format)));
                }
        }
    }

    TEST_CASE("stochastic rounding is right in the mean") {
        constexpr std::size_t kCount = 1 << 18;
        for (const FloatFormat format : {FloatFormat::e4m3, FloatFormat::e5m2}) {
            std::vector<float> x(kCount);
            Stream({.seed = 3, .purpose = Purpose::test}).fill_normal(x);
            const std::vector<float> out = stochastic(x, format, 0x1p-6F);
            double bias = 0;
            double squares = 0;
            for (std::size_t i = 0; i < kCount; ++i) {
                const double error = static_cast<double>(out[i]) - static_cast<double>(x[i]);
                bias += error;
                squares += error * error;
            }
            CHECK(squares > 0);
            CHECK(std::abs(bias) < 5 * std::sqrt(squares));
        }
    }

    TEST_CASE("the scale is the smallest power of two that clips nothing") {
        for (const FloatFormat format : {FloatFormat::fp16, FloatFormat::e4m3, FloatFormat::e5m2}) {
            const float largest = limits_of(format).largest;
            CHECK(choose_float_scale(largest, format) == 1);
            CHECK(choose_float_scale(std::nextafter(largest, 1e38F), format) == 2);
            CHECK(choose_float_scale(largest / 2, format) == 0.5F);
            CHECK(choose_float_scale(0, format) == 1);
            CHECK(choose_float_scale(std::numeric_limits<float>::denorm_min(), format) == 0x1p-100F);
            for (const float x : bit_patterns(1000)) {
                const float magnitude = std::abs(x);
                const float scale = choose_float_scale(magnitude, format);
                std::vector<float> out(1);
                CHECK(round_nearest(std::vector<float>{magnitude}, out, format, scale) == 0);
                CHECK((scale == 0x1p-100F || static_cast<double>(magnitude) / scale > largest / 2.0));
            }
        }
        CHECK(choose_float_scale(1e30F, FloatFormat::bf16) == 1);
        CHECK_THROWS_AS(choose_float_scale(std::numeric_limits<float>::infinity(), FloatFormat::fp16),
                        PreconditionError);
    }

    TEST_CASE("a scale that is no power of two and operands of different sizes are refused") {
        std::vector<float> x(3);
        CHECK_THROWS_AS(round_nearest(x, x, FloatFormat::e4m3, 3.0F), PreconditionError);
        CHECK_THROWS_AS(round_nearest(x, x, FloatFormat::e4m3, 0.0F), PreconditionError);
        std::vector<float> shorter(2);
        CHECK_THROWS_AS(round_nearest(x, shorter, FloatFormat::e4m3), PreconditionError);
        CHECK_THROWS_AS(round_stochastic(x, draws(2), x, FloatFormat::e4m3), PreconditionError);
    }
}
