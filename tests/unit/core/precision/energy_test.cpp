#include "core/precision/energy.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>

using namespace dither;

TEST_SUITE("core/precision/energy") {
    TEST_CASE("a multiply-accumulate costs what the table says at the table's widths") {
        CHECK(mac_energy_pj({32}, {32}) == doctest::Approx(3.7 + 0.9));
        CHECK(mac_energy_pj({8}, {8}) == doctest::Approx(0.2 + 0.1));
        CHECK(mac_energy_pj({16, false}, {16, false}) == doctest::Approx(1.1 + 0.9));
    }

    TEST_CASE("fewer bits on either side cost less, in proportion to the multiplier's cells") {
        CHECK(mac_energy_pj({4}, {4}) == doctest::Approx(0.05 + 0.1));
        CHECK(mac_energy_pj({2}, {8}) == doctest::Approx(0.05 + 0.1));
        CHECK(mac_energy_pj({16}, {16}) == doctest::Approx(0.8 + 0.1));
    }

    TEST_CASE("codes beside a float are multiplied as floats") {
        CHECK(mac_energy_pj({4}, {32}) == mac_energy_pj({32}, {32}));
        CHECK(mac_energy_pj({8}, {16, false}) == mac_energy_pj({16, false}, {16, false}));
    }

    TEST_CASE("reading costs by the smallest memory that holds it all") {
        CHECK(read_energy_pj(8) == doctest::Approx(10));
        CHECK(read_energy_pj(8 * 1024) == doctest::Approx(10 * 1024));
        CHECK(read_energy_pj(32 * 1024) == doctest::Approx(20 * 4 * 1024));
        CHECK(read_energy_pj(1024 * 1024) == doctest::Approx(100 * 128 * 1024));
        CHECK(read_energy_pj(2.0 * 1024 * 1024) == doctest::Approx(1950 * 256 * 1024));
        CHECK(read_energy_pj(0) == 0);
    }

    TEST_CASE("a width that no operand has is refused") {
        CHECK_THROWS_AS(mac_energy_pj({1}, {8}), PreconditionError);
        CHECK_THROWS_AS(mac_energy_pj({8}, {17}), PreconditionError);
    }
}
