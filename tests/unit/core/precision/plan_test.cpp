#include "core/precision/plan.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>
#include <cmath>
#include <limits>

using namespace dither;

TEST_SUITE("core/precision/plan") {
    TEST_CASE("a phase indexes its own width") {
        LayerBits bits{2, 4, 8, 16, 32};
        CHECK(bits[Phase::forward] == 2);
        CHECK(bits[Phase::backward] == 4);
        CHECK(bits[Phase::optimizer] == 8);
        CHECK(bits[Phase::uplink] == 16);
        CHECK(bits[Phase::downlink] == 32);
        bits[Phase::backward] = 6;
        CHECK(bits == LayerBits{2, 6, 8, 16, 32});
    }

    TEST_CASE("phases have the names of the job file and the log") {
        CHECK(name_of(Phase::forward) == "forward");
        CHECK(name_of(Phase::downlink) == "downlink");
    }

    TEST_CASE("a uniform plan has the same bits everywhere") {
        const PrecisionPlan plan = PrecisionPlan::uniform(3, 8);
        REQUIRE(plan.layers.size() == 3);
        for (const LayerBits& layer : plan.layers)
            for (const Phase phase : kPhases)
                CHECK(layer[phase] == 8);
    }

    TEST_CASE("bits are raised to the next level, and to 32 above all of them") {
        const Levels levels({4, 8, 16, 32});
        CHECK(levels.raise(-3) == 4);
        CHECK(levels.raise(4) == 4);
        CHECK(levels.raise(4.01) == 8);
        CHECK(levels.raise(9) == 16);
        CHECK(levels.raise(17) == 32);
        CHECK(levels.raise(1e9) == 32);
        CHECK(levels.raise(std::numeric_limits<double>::infinity()) == 32);
        CHECK(levels.raise(-std::numeric_limits<double>::infinity()) == 4);
        CHECK(levels.raise(std::nan("")) == 32);
    }

    TEST_CASE("raising never loses bits and always lands on a level") {
        CHECK(rc::check([](double bits) {
            const Levels levels({3, 5, 12, 32});
            const int raised = levels.raise(bits);
            return levels.contains(raised) && (raised >= bits || raised == 32);
        }));
    }

    TEST_CASE("levels must ascend within 2..16 and end in 32") {
        CHECK_NOTHROW(Levels({32}));
        CHECK_NOTHROW(Levels({2, 16, 32}));
        CHECK_THROWS_AS(Levels(std::vector<int>{}), InputError);
        CHECK_THROWS_AS(Levels({4, 8}), InputError);
        CHECK_THROWS_AS(Levels({1, 32}), InputError);
        CHECK_THROWS_AS(Levels({8, 4, 32}), InputError);
        CHECK_THROWS_AS(Levels({8, 8, 32}), InputError);
        CHECK_THROWS_AS(Levels({24, 32}), InputError);
        CHECK_THROWS_AS(Levels({32, 32}), InputError);
        CHECK_FALSE(Levels({4, 32}).contains(8));
    }
}
