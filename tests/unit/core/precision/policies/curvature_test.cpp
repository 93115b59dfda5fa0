#include "tests/unit/core/precision/policy_run.hpp"

#include <doctest/doctest.h>
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

using namespace dither;

namespace {

/// ratio = h * ||theta|| / s.
LayerStatistics ratio_of(double ratio, float signal = 2) {
    LayerStatistics s;
    s.curvature = static_cast<float>(ratio / 4);
    s.theta_norm = 8;
    s.signal_norm = signal;
    return s;
}

const PrecisionOptions kCurvature{.policy = "curvature", .levels = kFine, .smoothing = 1};

}  // namespace

TEST_SUITE("core/precision/policies/curvature") {
    TEST_CASE("bits grow with log2(h * |theta| / s_0), plus the margin, in both passes") {
        for (const int margin : {2, 4})
            for (const int exponent : {-1, 0, 3, 7}) {
                PrecisionOptions options = kCurvature;
                options.margin_bits = margin;
                PolicyRun run(options, 1);
                run.see({ratio_of(std::exp2(exponent - 0.5))});
                CHECK(run.bits().forward == std::max(2, exponent + margin));
                CHECK(run.bits().backward == run.bits().forward);
            }
    }

    TEST_CASE("bits follow the curvature and not the gradient") {
        PolicyRun run(kCurvature, 1);
        CHECK(run.policy().probe() == Probe::curvature);
        run.see({ratio_of(std::exp2(-0.5))});
        CHECK(run.bits().forward == 4);
        CHECK(run.see({ratio_of(std::exp2(-0.5), 0.001F)}).empty());
        run.see({ratio_of(std::exp2(0.5), 0.001F)});
        CHECK(run.bits().forward == 5);
    }

    TEST_CASE("a level is left downwards only with a quarter of a bit to spare") {
        PolicyRun run({.policy = "curvature", .smoothing = 1}, 1);
        run.see({ratio_of(std::exp2(-0.1))});
        CHECK(run.bits().forward == 8);
        run.see({ratio_of(std::exp2(-0.3))});
        CHECK(run.bits().forward == 4);
        run.see({ratio_of(std::exp2(-0.1))});
        CHECK(run.bits().forward == 4);
        const auto changes = run.see({ratio_of(std::exp2(0.1))});
        CHECK(run.bits().forward == 8);
        REQUIRE(changes.size() == 2);
        CHECK(changes[0].reason == "h*|theta|/s_0 = 0.268*8/2 = 1.07 -> 0.10 bits (+4 margin)");
    }

    TEST_CASE("what is not measured stays where it starts, what has no curvature gets the lowest level") {
        PolicyRun run({.policy = "curvature"}, 3);
        LayerStatistics silent = ratio_of(1);
        silent.signal_norm = 0;
        run.see({ratio_of(0), LayerStatistics{}, silent});
        CHECK(run.bits(0).forward == 4);
        CHECK(run.bits(1) == LayerBits{.forward = 8, .backward = 8, .optimizer = 8});
        CHECK(run.bits(2).forward == 8);
        CHECK(run.bits(0).optimizer == 8);
    }
}
