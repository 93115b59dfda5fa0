#include "aggregator/guard.hpp"

#include "core/error.hpp"

#include <limits>

#include <doctest/doctest.h>

using namespace dither;

namespace {

Guard guard_of(double loss, double saturation = 0.5) {
    PrecisionOptions options;
    options.guard_loss = loss;
    options.guard_saturation = saturation;
    return Guard(options);
}

}  // namespace

TEST_SUITE("aggregator/guard") {
    TEST_CASE("a loss far above the best one is refused with both numbers, and one near it is not") {
        Guard guard = guard_of(4);
        for (const double loss : {2.5, 2.3, 1.0, 5.0, 0.5, 3.0})  // the first may be anything
            CHECK(guard.judge(loss).empty());
        CHECK(guard.judge(3.01) == "the training loss of 3.01 is above 3 = 4 * 0.5 + 1");
    }

    TEST_CASE("a loss near zero may double") {
        Guard guard = guard_of(4);
        CHECK(guard.judge(1e-6).empty());
        CHECK(guard.judge(0.9).empty());
    }

    TEST_CASE("a best loss that was luck is forgotten: each refusal doubles it") {
        Guard guard = guard_of(4);
        CHECK(guard.judge(0.1).empty());
        CHECK_FALSE(guard.judge(2.5).empty());  // > 1.4
        CHECK(guard.judge(2.5).empty());        // <= 3 = 4 * 2 / 4 + 1: so it is from a best loss of 0, too
        CHECK_FALSE(guard.judge(20).empty());
        CHECK_FALSE(guard.judge(20).empty());
    }

    TEST_CASE("a loss below that of the untrained model is no divergence") {
        Guard guard = guard_of(4);
        CHECK(guard.judge(100).empty());
        CHECK(guard.judge(0.1).empty());
        CHECK(guard.judge(100).empty());
        CHECK(guard.judge(101) == "the training loss of 101 is above 1.4 = 4 * 0.1 + 1");
    }

    TEST_CASE("a loss that is no number is refused from the first round on") {
        Guard guard = guard_of(4);
        CHECK_FALSE(guard.judge(std::numeric_limits<double>::quiet_NaN()).empty());
        CHECK_FALSE(guard.judge(std::numeric_limits<double>::infinity()).empty());
    }

    TEST_CASE("a guard that is off refuses nothing") {
        Guard guard = guard_of(0);
        CHECK_FALSE(guard.is_on());
        for (const double loss : {1.0, 1e30, std::numeric_limits<double>::quiet_NaN()})
            CHECK(guard.judge(loss).empty());
    }

    TEST_CASE("layers are saturated above the share, and not where nothing was measured") {
        std::vector<LayerStatistics> layers(4);
        layers[1].saturation = 0.5F;
        layers[2].saturation = 0.51F;
        layers[3].saturation = 1;
        CHECK(guard_of(4).saturated(layers) == std::vector<std::size_t>{2, 3});
        CHECK(guard_of(4, 1).saturated(layers).empty());
    }

    TEST_CASE("a restored guard judges as the first one would have") {
        Guard one = guard_of(4);
        Guard other = guard_of(4);
        other.restore(one.state());
        CHECK(other.judge(50).empty());
        one.judge(0.5);
        other.restore(one.state());
        CHECK(other.judge(4) == one.judge(4));
        CHECK(other.state() == one.state());
        CHECK_THROWS_AS(one.restore(std::vector<double>{1}), PreconditionError);
        CHECK_THROWS_AS(one.restore(std::vector<double>{1, 2, 3}), PreconditionError);
    }
}
