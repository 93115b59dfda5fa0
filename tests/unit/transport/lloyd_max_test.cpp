#include "transport/detail/lloyd_max.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>

using dither::detail::lloyd_max_levels;

namespace {

double density(double x) {
    return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
}
double tail(double x) {
    return std::erfc(x / std::numbers::sqrt2) / 2;
}

}  // namespace

TEST_SUITE("transport/detail/lloyd_max") {
    TEST_CASE("every level is the mean of a normal variable between the midpoints to its neighbours") {
        for (unsigned bits = 1; bits <= dither::detail::kMostLloydMaxBits; ++bits) {
            const auto levels = lloyd_max_levels(bits);
            REQUIRE(levels.size() == std::size_t{1} << (bits - 1));
            for (std::size_t i = 0; i < levels.size(); ++i) {
                const double low = i == 0 ? 0 : (double{levels[i - 1]} + double{levels[i]}) / 2;
                const bool is_last = i + 1 == levels.size();
                const double high = is_last ? 40 : (double{levels[i]} + double{levels[i + 1]}) / 2;
                const double mean = (density(low) - density(high)) / (tail(low) - tail(high));
                CAPTURE(bits);
                CAPTURE(i);
                CHECK(levels[i] == doctest::Approx(mean).epsilon(1e-5));
            }
        }
    }

    TEST_CASE("no bits and too many are refused") {
        CHECK_THROWS_AS(lloyd_max_levels(0), dither::PreconditionError);
        CHECK_THROWS_AS(lloyd_max_levels(9), dither::PreconditionError);
    }
}
