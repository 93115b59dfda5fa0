#include "tests/unit/core/precision/policy_run.hpp"

#include <doctest/doctest.h>

using namespace dither;

namespace {

LayerStatistics gradient_of(float norm) {
    LayerStatistics s;
    s.grad_norm = norm;
    return s;
}

}  // namespace

TEST_SUITE("core/precision/policies/gradient") {
    TEST_CASE("gradient adds a bit for each halving of the gradient since the first round") {
        PolicyRun run({.policy = "gradient", .levels = kFine, .smoothing = 1}, 2);
        CHECK(run.bits() == LayerBits{.forward = 2, .backward = 2, .optimizer = 8});
        CHECK(run.see({gradient_of(3), gradient_of(4)}).empty());
        CHECK_FALSE(run.see({gradient_of(1.5F), gradient_of(2)}).empty());
        CHECK(run.bits(1) == LayerBits{.forward = 3, .backward = 3, .optimizer = 8});
        run.see({gradient_of(0.04F), gradient_of(0.03F)});
        CHECK(run.bits(0) == LayerBits{.forward = 9, .backward = 9, .optimizer = 9});
        run.see({gradient_of(3), gradient_of(4)});
        CHECK(run.bits(0).forward == 3);  // exactly 2 bits would do, but without the quarter of a bit to spare
        run.see({gradient_of(6), gradient_of(8)});
        CHECK(run.bits(0).forward == 2);
    }

    TEST_CASE("gradient smooths the norm") {
        PolicyRun run({.policy = "gradient", .levels = kFine, .smoothing = 0.5}, 1);
        run.see({gradient_of(8)});
        run.see({gradient_of(0)});
        CHECK(run.bits().forward == 3);  // 8 -> 4
    }
}
