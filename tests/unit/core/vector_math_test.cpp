#include "core/vector_math.hpp"

#include "core/error.hpp"
#include "core/rng.hpp"

#include <doctest/doctest.h>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

using namespace dither;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> normal(std::size_t count, std::uint32_t lane) {
    std::vector<float> values(count);
    Stream({.seed = 5, .purpose = Purpose::test, .lane = lane}).fill_normal(values);
    return values;
}

std::vector<float> exponentials_of(const std::vector<float>& x) {
    std::vector<float> out(x.size());
    exponentials(x, out);
    return out;
}

/// In units of the last place of the exact value.
double error_of(float result, double exact) {
    int exponent = 0;
    std::frexp(exact, &exponent);
    return std::abs(result - exact) / std::ldexp(1.0, exponent - std::numeric_limits<float>::digits);
}

}  // namespace

TEST_SUITE("core/vector_math") {
    TEST_CASE("exponentials are within a unit in the last place") {
        std::vector<float> x;
        for (float value = -87.33F; value < 88.722F; value += 0.000321F)
            x.push_back(value);
        for (float value = 1e-30F; value < 1; value *= 1.01F)
            x.insert(x.end(), {value, -value});
        const std::vector<float> out = exponentials_of(x);
        double worst = 0;
        for (std::size_t i = 0; i < x.size(); ++i)
            worst = std::max(worst, error_of(out[i], std::exp(static_cast<double>(x[i]))));
        CHECK(worst < 1);
    }

    TEST_CASE("exponentials keep their values where others end: 0, infinities and what is no number") {
        const std::vector<float> out = exponentials_of({0, -0.0F, -kInfinity, -87.34F, -1e30F, kInfinity, 88.723F});
        CHECK(out == std::vector<float>{1, 1, 0, 0, 0, kInfinity, kInfinity});
        CHECK(std::isnan(exponentials_of({std::numeric_limits<float>::quiet_NaN()}).front()));
    }

    TEST_CASE("an exponential does not depend on its place") {
        const std::vector<float> x = normal(100, 1);
        const std::vector<float> all = exponentials_of(x);
        for (std::size_t i = 0; i < x.size(); ++i)
            CHECK(exponentials_of({x[i]}).front() == all[i]);
    }

    TEST_CASE("exponentials of known arguments have these bits, on every processor") {
        const std::vector<float> out = exponentials_of({1.0F, -1.0F, 0.5F, 10.0F, -20.0F});
        std::vector<std::uint32_t> bits;
        for (const float value : out)
            bits.push_back(std::bit_cast<std::uint32_t>(value));
        CHECK(bits == std::vector<std::uint32_t>{0x402df854U, 0x3ebc5ab2U, 0x3fd3094cU, 0x46ac14eeU, 0x310da433U});
    }

    TEST_CASE("binary logarithms are those of the library up to rounding, and exact for powers of two") {
        for (int exponent = -1000; exponent < 1000; ++exponent) {
            const double power = std::ldexp(1.0, exponent);
            CHECK(binary_logarithm(power) == exponent);
            CHECK(binary_logarithm(power * 1.37) == doctest::Approx(std::log2(power * 1.37)).epsilon(1e-14));
        }
        CHECK_THROWS_AS(binary_logarithm(0), PreconditionError);
    }

    TEST_CASE("powers of two are those of the library up to rounding, exact for whole exponents") {
        for (const int exponent : {-1074, -1022, -3, 0, 1, 52, 1023})
            CHECK(binary_power(exponent) == std::ldexp(1.0, exponent));
        for (const double x : {-300.7, -1.5, -0.5, -1e-9, 0.25, 0.5, 3.3, 800.49})
            CHECK(binary_power(x) == doctest::Approx(std::exp2(x)).epsilon(1e-14));
        CHECK(binary_power(1e9) == std::numeric_limits<double>::infinity());
        CHECK(binary_power(-1e9) == 0);
        CHECK_THROWS_AS(binary_power(std::nan("")), PreconditionError);
    }

    TEST_CASE("half a cosine is that of the library up to rounding, exact at its ends and its middle, and rises") {
        CHECK(half_cosine(0) == 0);
        CHECK(half_cosine(0.5) == 0.5);
        CHECK(half_cosine(1) == 1);
        double last = 0;
        for (int i = 0; i <= 1000; ++i) {
            const double t = i / 1000.0;
            const double value = half_cosine(t);
            CHECK(std::abs(value - (1 - std::cos(std::numbers::pi * t)) / 2) < 3e-16);
            CHECK(value >= last);
            CHECK(value <= 1);
            last = value;
        }
        CHECK(half_cosine(1e-6) == doctest::Approx(std::numbers::pi * std::numbers::pi / 4 * 1e-12).epsilon(1e-11));
        CHECK_THROWS_AS(half_cosine(-0.1), PreconditionError);
        CHECK_THROWS_AS(half_cosine(1.1), PreconditionError);
        CHECK_THROWS_AS(half_cosine(std::nan("")), PreconditionError);
    }

    TEST_CASE("a moving average and the norm of what it takes in come from one pass, as from two") {
        for (const std::size_t count : {0UL, 1UL, 7UL, 8UL, 31UL, 1000UL}) {
            const std::vector<float> v = normal(count, 2);
            std::vector<float> average = normal(count, 3);
            std::vector<float> expected = average;
            for (std::size_t i = 0; i < count; ++i)
                expected[i] = 0.9F * expected[i] + (1 - 0.9F) * v[i];
            CHECK(blend_and_square(average, v, 0.9F) == squared_norm(std::span<const float>(v)));
            CHECK(average == expected);
        }
    }

    TEST_CASE("norms and magnitudes are those of their definitions") {
        std::vector<float> v(13, 1.0F);
        v[12] = -3;
        CHECK(squared_norm(std::span<const float>(v)) == 21);
        CHECK(max_magnitude(v) == 3);
        CHECK(all_finite(v));
        v[5] = kInfinity;
        CHECK_FALSE(std::isfinite(max_magnitude(v)));
        CHECK_FALSE(all_finite(v));
        CHECK(max_magnitude({}) == 0);
    }

    TEST_CASE("operands of different sizes are refused") {
        std::vector<float> two(2);
        const std::vector<float> three(3);
        CHECK_THROWS_AS(exponentials(three, two), PreconditionError);
        CHECK_THROWS_AS(blend_and_square(two, three, 0.5F), PreconditionError);
    }
}
