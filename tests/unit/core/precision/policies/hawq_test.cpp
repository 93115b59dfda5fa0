#include "core/precision/ledger.hpp"
#include "tests/unit/core/precision/policy_run.hpp"

#include <doctest/doctest.h>
#include <vector>

using namespace dither;

namespace {

LayerStatistics trace_of(double trace, float forward_error = kNotMeasured, float theta_norm = 1) {
    LayerStatistics s;
    s.curvature_trace = static_cast<float>(trace);
    s.theta_norm = theta_norm;
    s.forward_error = forward_error;
    return s;
}

/// Of these, the second has three quarters of the work.
Schema two_layers() {
    return schema_of({{.count = 10, .macs = 100}, {.count = 10, .macs = 300}});
}

const PrecisionOptions kHawq{.policy = "hawq", .bits = 8, .levels = {2, 4, 8, 16, 32}, .smoothing = 1};

}  // namespace

TEST_SUITE("core/precision/policies/hawq") {
    TEST_CASE("starts below the budget and waits for a trace of every layer") {
        PolicyRun run(kHawq, two_layers());
        CHECK(run.policy().probe() == Probe::curvature);
        CHECK(run.bits() == LayerBits{.forward = 8, .backward = 8, .optimizer = 8});
        CHECK(run.see({trace_of(1), LayerStatistics{}}).empty());
        PrecisionOptions options = kHawq;
        options.bit_budget = 6.5;
        CHECK(PolicyRun(options, two_layers()).bits().forward == 4);
    }

    TEST_CASE("bits go to the layers with the steepest curvature, within the budget") {
        for (const double budget : {3.0, 4.0, 6.0, 8.0, 12.0, 20.0}) {
            PrecisionOptions options = kHawq;
            options.bit_budget = budget;
            PolicyRun run(options, two_layers());
            run.see({trace_of(1000), trace_of(0.01)});
            CHECK(mean_bits(two_layers(), run.plan()) <= budget);
            CHECK(run.bits(0).forward > run.bits(1).forward);
            CHECK(run.bits(0).backward == run.bits(0).forward);
        }
    }

    TEST_CASE("without a budget precision.bits is the mean") {
        PolicyRun run(kHawq, two_layers());
        run.see({trace_of(100), trace_of(1)});
        CHECK(mean_bits(two_layers(), run.plan()) <= 8);
        CHECK(mean_bits(two_layers(), run.plan()) > 4);
    }

    TEST_CASE("what a layer's rounding was measured at counts, in place of what a grid of its size would give") {
        const auto first_bits = [](float error) {
            PrecisionOptions options = kHawq;
            options.bit_budget = 7;
            PolicyRun run(options, two_layers());
            run.see({trace_of(1, error), trace_of(1, 0.1F)});
            return run.bits(0).forward;
        };
        CHECK(first_bits(0.001F) < first_bits(10));
    }

    TEST_CASE("a plan stays until another one is clearly better") {
        PrecisionOptions options = kHawq;
        options.bit_budget = 6;
        PolicyRun run(options, two_layers());
        CHECK_FALSE(run.see({trace_of(1), trace_of(1)}).empty());
        CHECK(run.see({trace_of(1.1), trace_of(1)}).empty());
        const auto changes = run.see({trace_of(1.1), trace_of(1000)});
        for (const PlanChange& change : changes)
            CHECK(change.reason.find("budget 6") != std::string::npos);
    }

    TEST_CASE("passes that were raised apart come together again") {
        PrecisionOptions options = kHawq;
        PolicyRun run(options, two_layers());
        run.see({trace_of(1), trace_of(1)});
        const PrecisionPlan before = run.plan();
        run.plan().layers[1].backward = 32;
        run.see({LayerStatistics{}, LayerStatistics{}});
        CHECK(run.plan() == before);
    }
}
