#include "core/optim/schedule.hpp"

#include "core/config.hpp"
#include "core/error.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>

using namespace dither;

namespace {

double factor(const ScheduleOptions& options, double round, std::uint32_t rounds = 10) {
    return learning_rate_factor(options, {.round = round, .step = 0.1, .rounds = rounds});
}

}  // namespace

TEST_SUITE("core/optim/schedule") {
    TEST_CASE("a constant rate stays, whatever the round") {
        for (const double round : {0.0, 0.5, 9.9, 100.0})
            CHECK(factor({}, round) == 1);
    }

    TEST_CASE("steps fall exactly between rounds") {
        const ScheduleOptions options{.kind = "step", .every_rounds = 3, .factor = 0.5};
        CHECK(factor(options, 0) == 1);
        CHECK(factor(options, 2.99) == 1);
        CHECK(factor(options, 3) == 0.5);
        CHECK(factor(options, 5.9) == 0.5);
        CHECK(factor(options, 6) == 0.25);
        CHECK(factor(options, 30) == std::ldexp(1.0, -10));
    }

    TEST_CASE("steps may be as small and as many as a job asks for") {
        CHECK(factor({.kind = "step", .every_rounds = 1e-300, .factor = 0.5}, 5) == 0);
        CHECK(factor({.kind = "step", .every_rounds = 1e-300, .factor = 1}, 5) == 1);
    }

    TEST_CASE("a cosine goes from the whole rate to its floor, half of the way in the middle, and stays there") {
        const ScheduleOptions options{.kind = "cosine", .floor = 0.2};
        CHECK(factor(options, 0) == 1);
        CHECK(factor(options, 5) == doctest::Approx(0.6));
        CHECK(factor(options, 10) == 0.2);
        CHECK(factor(options, 12) == 0.2);
        CHECK(factor(options, 2.5) == doctest::Approx(0.2 + 0.8 * (1 + std::cos(std::numbers::pi / 4)) / 2));
        CHECK(factor({.kind = "cosine"}, 10) == 0);
    }

    TEST_CASE("a warm-up rises in even steps from the first one on, and ends with the whole rate") {
        const ScheduleOptions options{.warmup_rounds = 2};
        CHECK(factor(options, 0) == doctest::Approx(0.05));  // the first of twenty steps
        CHECK(factor(options, 0.9) == doctest::Approx(0.5));
        CHECK(factor(options, 1.9) == doctest::Approx(1));
        CHECK(factor(options, 2) == 1);
    }

    TEST_CASE("a cosine starts where the warm-up ends") {
        const ScheduleOptions options{.kind = "cosine", .warmup_rounds = 2};
        CHECK(factor(options, 0.9) == doctest::Approx(0.5));
        CHECK(factor(options, 2) == 1);
        CHECK(factor(options, 6) == doctest::Approx(0.5));
        CHECK(factor(options, 10) == 0);
        CHECK(factor(options, 1.5, 2) == doctest::Approx(0.8));  // a run that is all warm-up
    }

    TEST_CASE("steps count from the start of the run, and the warm-up multiplies them") {
        const ScheduleOptions options{.kind = "step", .warmup_rounds = 4, .every_rounds = 2, .factor = 0.5};
        CHECK(factor(options, 2.9) == doctest::Approx(0.5 * 3 / 4));
        CHECK(factor(options, 4) == 0.25);
    }

    TEST_CASE("an unknown schedule is named") {
        CHECK_THROWS_WITH_AS(factor({.kind = "cosinus"}, 0), doctest::Contains("cosinus"), InputError);
    }
}
