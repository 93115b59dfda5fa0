#include "transport/detail/rate_allocation.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>

using namespace dither::detail;

namespace {

double error_of(std::span<const LayerPower> layers, std::span<const double> rates) {
    double error = 0;
    for (std::size_t i = 0; i < layers.size(); ++i)
        if (layers[i].squared_norm > 0)
            error += layers[i].squared_norm / (std::pow(4, rates[i]) - 1);
    return error;
}

}  // namespace

TEST_SUITE("transport/detail/rate_allocation") {
    constexpr std::array<LayerPower, 4> kLayers{{{320, 4.0}, {18'496, 2.5}, {2000, 0}, {184'832, 9.0}}};
    constexpr double kBits = 103'461;

    TEST_CASE("the bits are used, and zeros get none") {
        const auto rates = allocate_rates(kLayers, kBits, 8);
        double bits = 0;
        for (std::size_t i = 0; i < kLayers.size(); ++i)
            bits += rates[i] * static_cast<double>(kLayers[i].count);
        CHECK(bits == doctest::Approx(kBits).epsilon(1e-6));
        CHECK(rates[2] == 0);
        CHECK(rates[3] > 0);
        CHECK(rates[0] > rates[1]);
    }

    TEST_CASE("moving bits between layers only makes it worse") {
        const auto rates = allocate_rates(kLayers, kBits, 8);
        const double least = error_of(kLayers, rates);
        for (const std::size_t from : {0U, 1U, 3U})
            for (const std::size_t to : {0U, 1U, 3U}) {
                auto moved = rates;
                const double bits = 0.01 * std::min(rates[from] * static_cast<double>(kLayers[from].count), 300.0);
                moved[from] -= bits / static_cast<double>(kLayers[from].count);
                moved[to] += bits / static_cast<double>(kLayers[to].count);
                CHECK(error_of(kLayers, moved) >= least * (1 - 1e-6));
            }
    }

    TEST_CASE("no layer gets more than it can use, whatever its magnitude") {
        constexpr std::array<LayerPower, 2> kUnequal{{{100, 1e76}, {100, 1e-80}}};
        for (const double bits : {0.0, 100.0, 1e4}) {
            const auto rates = allocate_rates(kUnequal, bits, 8);
            for (const double rate : rates) {
                CHECK(rate >= 0);
                CHECK(rate <= 8);
            }
        }
        CHECK(allocate_rates(kUnequal, 1e4, 8)[0] == 8);
    }
}
