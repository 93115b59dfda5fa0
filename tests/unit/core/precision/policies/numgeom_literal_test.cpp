#include "tests/unit/core/precision/policy_run.hpp"

#include <doctest/doctest.h>
#include <vector>

using namespace dither;

namespace {

LayerStatistics literal(float kappa, float theta, float g, float lipschitz = 1) {
    LayerStatistics s;
    s.curvature_norm = kappa;
    s.theta_norm = theta;
    s.grad_norm = g;
    s.lipschitz = lipschitz;
    return s;
}

const PrecisionOptions kLiteral{.policy = "numgeom_literal"};

}  // namespace

TEST_SUITE("core/precision/policies/numgeom_literal") {
    TEST_CASE("the published rule runs at fp32 until its warm-up is over") {
        PrecisionOptions options = kLiteral;
        options.warmup_rounds = 3;
        PolicyRun run(options, 1);
        CHECK(run.policy().probe() == Probe::curvature_norm);
        const std::vector<LayerStatistics> round{literal(0.1F, 1, 1)};
        CHECK(run.see(round).empty());
        CHECK(run.see(round).empty());
        CHECK(run.bits() == LayerBits{});
        CHECK_FALSE(run.see(round).empty());
        CHECK(run.bits() == LayerBits{.forward = 4, .backward = 4, .optimizer = 4});
    }

    TEST_CASE("the published rule waits for the measurements that it needs") {
        PolicyRun run(kLiteral, 1);
        LayerStatistics cheap;
        cheap.theta_norm = 1;
        cheap.grad_norm = 1;
        CHECK(run.see({cheap}).empty());
        CHECK(run.bits().forward == 32);
        LayerStatistics costly;
        costly.curvature_norm = 0.1F;
        costly.lipschitz = 1;
        run.see({costly});
        CHECK(run.bits().forward == 4);
    }

    TEST_CASE("the published rule asks for the bits that its formula gives") {
        // kappa, ||theta|| and ||g|| of a small CNN's conv1, conv2, fc1 and fc2.
        PrecisionOptions options = kLiteral;
        options.levels = kFine;
        PolicyRun run(options, 4);
        run.see(
            {literal(0.43F, 5.7F, 0.12F), literal(3.5F, 8.1F, 0.41F), literal(11, 17, 0.96F), literal(6, 3.8F, 0.79F)});
        const std::vector<int> expected{9, 11, 12, 9};
        for (std::size_t i = 0; i < 4; ++i) {
            CHECK(run.bits(i).forward == expected[i]);
            CHECK(run.bits(i).backward == expected[i]);
            CHECK(run.bits(i).optimizer == 12);
        }
    }

    TEST_CASE("the published rule's global bound holds for every layer") {
        PrecisionOptions options = kLiteral;
        options.levels = kFine;
        PolicyRun run(options, 2);
        const auto changes = run.see({literal(0.1F, 1, 3, 100), literal(0.1F, 1, 4, 32)});
        CHECK(run.bits(0).forward == 10);  // log2(3200 / 5) = 9.3
        CHECK(run.bits(1).forward == 10);
        CHECK(changes[0].reason == "L_T/|g| = 3.2e+03/5 -> 10 bits");
        run.see({literal(0.1F, 1, 0), literal(0.1F, 1, 0)});
        CHECK(run.bits(0).forward == 32);
    }

    TEST_CASE("a layer without a Lipschitz constant counts as 1 in the published rule's product") {
        PrecisionOptions options = kLiteral;
        options.levels = kFine;
        PolicyRun run(options, 2);
        const auto changes = run.see({literal(0.1F, 1, 3, 3200), literal(0.1F, 1, 4, kNotMeasured)});
        REQUIRE_FALSE(changes.empty());
        CHECK(changes[0].reason == "L_T/|g| = 3.2e+03/5 -> 10 bits");
        CHECK(run.bits(1).forward == 10);
    }

    TEST_CASE("a layer without products, such as a norm, keeps its bits and raises nobody else's") {
        PrecisionOptions options = kLiteral;
        options.levels = kFine;
        PolicyRun run(options, schema_of({{.count = 1, .macs = 1}, {.count = 1, .macs = 0}}));
        run.see({literal(0.1F, 1, 3, 1), literal(1e5F, 1, 4, kNotMeasured)});
        CHECK(run.bits(0) == LayerBits{.forward = 4, .backward = 4, .optimizer = 4});
        CHECK(run.bits(1) == LayerBits{.forward = 32, .backward = 32, .optimizer = 4});
    }
}
