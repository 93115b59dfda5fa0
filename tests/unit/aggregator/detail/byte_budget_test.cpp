#include "aggregator/detail/byte_budget.hpp"

#include <cmath>

#include <doctest/doctest.h>

using namespace dither;

namespace {

constexpr double kCoordinates = 1000;

/// 100 bytes of frames, and so many bits a coordinate at coarseness 1, fewer than one of which each doubling saves.
struct Round {
    double bits = 8;
    double coarsest = 1e9;
    int encoded = 0;
    double at = 1;

    double bytes(double coarseness) {
        ++encoded;
        at = std::min(coarseness, coarsest);
        return 100 + kCoordinates / 8 * std::log2(1 + std::exp2(bits) / at);
    }
    Fitted fit(double limit) {
        return fit_coarseness(
            limit, kCoordinates, [this](double c) { return bytes(c); }, [this] { return at < coarsest; });
    }
};

}  // namespace

TEST_SUITE("aggregator/byte_budget") {
    TEST_CASE("grids stay as they are where they fit, for one encoding") {
        Round round;
        const Fitted fitted = round.fit(2000);
        CHECK(fitted.fits);
        CHECK(fitted.coarseness == 1);
        CHECK(round.encoded == 1);
    }

    TEST_CASE("grids are made as coarse as the limit needs, and hardly coarser, in few encodings") {
        for (const double limit : {900.0, 600.0, 300.0, 150.0}) {
            CAPTURE(limit);
            Round round;
            const Fitted fitted = round.fit(limit);
            CHECK(fitted.fits);
            CHECK(fitted.bytes <= limit);
            CHECK(fitted.bytes > 100 + 0.7 * (limit - 100));
            CHECK(round.encoded <= 12);
        }
    }

    TEST_CASE("a limit below the coarsest grids is said to be out of reach") {
        Round round{.coarsest = 4};
        const Fitted fitted = round.fit(200);
        CHECK_FALSE(fitted.fits);
        CHECK(fitted.coarsest);
        CHECK(fitted.bytes == doctest::Approx(100 + 125 * std::log2(65)));
        CHECK_FALSE(Round{}.fit(50).fits);
    }

    TEST_CASE("a search that gives up where grids could be coarser does not call them the coarsest") {
        int tries = 0;
        const auto never = [&](double) { return ++tries, 1000.0; };
        const Fitted fitted = fit_coarseness(10, 1e9, never, [] { return true; });
        CHECK_FALSE(fitted.fits);
        CHECK_FALSE(fitted.coarsest);
        CHECK(tries < 100);
    }

    TEST_CASE("a coarseness is a power of the sixteenth root of 2, to the bit") {
        Round round;
        const double coarseness = round.fit(600).coarseness;
        CHECK(coarseness > 1);
        const double sixteenths = 16 * std::log2(coarseness);
        CHECK(sixteenths == doctest::Approx(std::round(sixteenths)).epsilon(1e-12));
        CHECK(fit_coarseness(
                  0, 8.0, [](double c) { return c >= 8 ? 0.0 : 3.0; }, [] { return true; })
                  .coarseness == 8);
    }
}
