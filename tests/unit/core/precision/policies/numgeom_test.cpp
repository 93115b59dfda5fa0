#include "core/precision/error_model.hpp"
#include "tests/unit/core/precision/policy_run.hpp"

#include <doctest/doctest.h>
#include <cmath>
#include <limits>
#include <vector>

using namespace dither;

namespace {

/// What rounding a layer's forward and backward products to 4 bits does to a gradient, of which the forward error
/// leaves so much in the smoothed one, and the smoothed gradient.
LayerStatistics felt(double forward, double backward, double signal = 1, double eps = 0.1) {
    LayerStatistics s;
    s.forward_sensitivity = static_cast<float>(forward / std::sqrt(kForwardDamping));
    s.backward_sensitivity = static_cast<float>(backward);
    s.signal_norm = static_cast<float>(signal);
    s.backward_error = static_cast<float>(eps);
    return s;
}

const PrecisionOptions kNumGeom{.policy = "numgeom", .target_error = 0.25, .backward_tolerance = 0.7, .smoothing = 1};

}  // namespace

TEST_SUITE("core/precision/policies/numgeom") {
    TEST_CASE("starts at precision.bits and stays there until every layer has been measured") {
        PolicyRun run(kNumGeom, 2);
        CHECK(run.bits() == LayerBits{.forward = 8, .backward = 4, .optimizer = 8});
        CHECK(run.policy().probe() == Probe::sensitivity);
        CHECK(run.see({LayerStatistics{}, LayerStatistics{}}).empty());
        CHECK(run.see({felt(0, 0), LayerStatistics{}}).empty());
        CHECK_FALSE(run.see({LayerStatistics{}, felt(0, 0)}).empty());
        PolicyRun coarse({.policy = "numgeom", .levels = {4, 16, 32}}, 1);
        CHECK(coarse.bits() == LayerBits{.forward = 16, .backward = 4, .optimizer = 16});
        PolicyRun low({.policy = "numgeom", .bits = 4}, 1);
        CHECK(low.bits() == LayerBits{.forward = 4, .backward = 4, .optimizer = 8});
    }

    TEST_CASE("layers that feel rounding pay with bits, those that do not get the least") {
        const std::vector<LayerStatistics> seen{felt(2, 0.1), felt(0.1, 0.1), felt(0.1, 4)};
        PolicyRun run(kNumGeom, 3);
        run.see(seen);
        CHECK(run.bits(0) == LayerBits{.forward = 8, .backward = 4, .optimizer = 8});
        CHECK(run.bits(1) == LayerBits{.forward = 4, .backward = 4, .optimizer = 8});
        CHECK(run.bits(2) == LayerBits{.forward = 4, .backward = 8, .optimizer = 8});
        CHECK(predicted(seen, run.plan()) <= 0.25);
    }

    TEST_CASE("bits rise as the gradient falls, and rounding with it does not") {
        PolicyRun run(kNumGeom, 1);
        std::vector<int> forward;
        for (const double signal : {10.0, 3.0, 1.0, 0.1, 0.01, 1e-5}) {
            run.see({felt(0.5, 0.1, signal)});
            forward.push_back(run.bits().forward);
        }
        // A signal counts as at most a factor of 4 smaller than before.
        CHECK(forward == std::vector{4, 4, 8, 16, 32, 32});
        for (int round = 0; round < 10; ++round)
            run.see({felt(0.5, 0.1, 1e-5)});
        CHECK(run.bits().forward == 32);
        CHECK(run.bits().optimizer == 32);
    }

    TEST_CASE("the plan is the cheapest below the target, whatever the target") {
        const std::vector<LayerStatistics> seen{felt(1, 0.5, 1, 0), felt(0.3, 2, 1, 0)};
        for (const double target : {3.0, 1.0, 0.3, 0.1, 0.01, 1e-4}) {
            PrecisionOptions options = kNumGeom;
            options.levels = kFine;
            options.target_error = target;
            PolicyRun run(options, 2);
            run.see(seen);
            CHECK(predicted(seen, run.plan()) <= target);
            // From there, no place may go lower by itself.
            for (LayerBits& bits : run.plan().layers)
                for (const Phase phase : {Phase::forward, Phase::backward}) {
                    const int own = bits[phase];
                    if (own == 32 || own == kSensitivityBits)
                        continue;
                    bits[phase] = own - 1;
                    CHECK(predicted(seen, run.plan()) > target / 1.2);  // a quarter of a bit to spare
                    bits[phase] = own;
                }
        }
    }

    TEST_CASE("a cheaper plan is taken only with a quarter of a bit to spare") {
        PolicyRun run(kNumGeom, 1);
        run.see({felt(0.24, 0)});
        CHECK(run.bits().forward == 8);  // 4 bits would do, barely
        run.see({felt(0.21, 0)});
        CHECK(run.bits().forward == 4);
        run.see({felt(0.24, 0)});
        CHECK(run.bits().forward == 4);
        run.see({felt(0.26, 0)});
        CHECK(run.bits().forward == 8);
    }

    TEST_CASE("the backward pass has the bits that the output gradient's rounding error allows") {
        PrecisionOptions options = kNumGeom;
        options.levels = kFine;
        const auto bits_for = [&](double eps) {
            PolicyRun run(options, 1);
            run.see({felt(0, 0, 1, eps)});
            return run.bits().backward;
        };
        CHECK(bits_for(0.05) == 4);  // never below what was measured
        CHECK(bits_for(0.3) == 4);
        CHECK(bits_for(0.58) == 4);
        CHECK(bits_for(0.6) == 5);  // would do, but without the quarter of a bit to spare
        CHECK(bits_for(0.8) == 5);
        CHECK(bits_for(1e9) == 32);
        PolicyRun run(kNumGeom, 1);
        run.see({felt(0, 0, 1, 0.5)});
        CHECK(run.bits().backward == 4);
        run.see({felt(0, 0, 1, 0.65)});
        CHECK(run.bits().backward == 4);
        const auto changes = run.see({felt(0, 0, 1, 0.75)});
        CHECK(run.bits().backward == 8);
        REQUIRE(changes.size() == 1);
        CHECK(changes[0].reason.ends_with("; eps = 0.75 at 4 bits, tolerance 0.7"));
    }

    TEST_CASE("no pass goes below the 4 bits at which it was measured") {
        PrecisionOptions options = kNumGeom;
        options.levels = kFine;
        PolicyRun run(options, 1);
        run.see({felt(0, 0, 1, kNotMeasured)});
        CHECK(run.bits().forward == 4);
        CHECK(run.bits().backward == 4);
    }

    TEST_CASE("a change says what the step's error was, what it becomes, and the layer's share of it") {
        PolicyRun run(kNumGeom, 2);
        auto changes = run.see({felt(0.12, 0, 1), felt(0, 0, 0)});
        REQUIRE(changes.size() == 2);
        CHECK(changes[0].layer == 0);
        CHECK(changes[0].phase == Phase::forward);
        CHECK(changes[0].from == 8);
        CHECK(changes[0].to == 4);
        CHECK(changes[0].reason ==
              "step error 0.0174 <= target 0.25, becomes 0.12; forward at 8 bits brings 0.0174, at 4 bits 0.12");
        changes = run.see({felt(0.3, 0, 1), LayerStatistics{}});
        REQUIRE(changes.size() == 1);
        CHECK(changes[0].reason ==
              "step error 0.3 > target 0.25, becomes 0.0434; forward at 4 bits brings 0.3, at 8 bits 0.0434");
    }

    TEST_CASE("one measurement that goes astray counts as at most four times what was known") {
        PrecisionOptions options = kNumGeom;
        options.levels = kFine;
        options.smoothing = 0.5;
        PolicyRun run(options, 1);
        PolicyRun other(options, 1);
        run.see({felt(0.1, 0)});
        other.see({felt(0.1, 0)});
        run.see({felt(1e6, 0)});
        other.see({felt(0.4, 0)});
        CHECK(run.plan() == other.plan());
        CHECK(run.policy().state() == other.policy().state());
    }

    TEST_CASE("what is not measured keeps its last value, what is measured is averaged") {
        PrecisionOptions options = kNumGeom;
        options.smoothing = 0.5;
        PolicyRun run(options, 1);
        run.see({felt(0.15, 0)});
        CHECK(run.bits().forward == 4);
        CHECK(run.see({LayerStatistics{}}).empty());
        CHECK(run.see({felt(0.3, 0)}).empty());  // 0.21, the geometric mean
        CHECK(run.see({LayerStatistics{}}).empty());
        run.see({felt(0.3, 0)});  // 0.252
        CHECK(run.bits().forward == 8);
    }

    TEST_CASE("a sensitivity counts beside the gradient of its own round: the plan stays while both fall alike") {
        PrecisionOptions options = kNumGeom;
        options.smoothing = 0.5;
        PolicyRun run(options, 1);
        run.see({felt(0.15, 0.1)});
        const PrecisionPlan plan = run.plan();
        for (double size = 0.1; size > 1e-6; size *= 0.1) {
            CHECK(run.see({felt(0.15 * size, 0.1 * size, size)}).empty());
            LayerStatistics quiet;  // no measurement, and a gradient that has fallen again
            quiet.signal_norm = static_cast<float>(0.1 * size);
            CHECK(run.see({quiet}).empty());
        }
        CHECK(run.plan() == plan);
    }

    TEST_CASE("what is no number changes nothing until a number replaces it") {
        for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
            PolicyRun run(kNumGeom, 1);
            run.see({felt(0.1, 0)});
            CHECK(run.bits().forward == 4);
            LayerStatistics broken = felt(0.1, 0);
            broken.forward_sensitivity = bad;
            CHECK(run.see({broken}).empty());
            run.see({felt(0.5, 0)});
            CHECK(run.bits().forward == 8);
        }
    }

    TEST_CASE("a gradient that vanished predicts nothing, and the plan stays") {
        PolicyRun run(kNumGeom, 1);
        CHECK(run.see({felt(0.1, 0.1, 0)}).empty());
        CHECK(run.bits().forward == 8);
    }

    TEST_CASE("an optimizer that amplifies a layer's gradient amplifies its errors") {
        PolicyRun run(kNumGeom, 2);
        LayerStatistics first = felt(0.1, 0);
        LayerStatistics second = felt(0.1, 0);
        first.step_gain = 20;
        second.step_gain = 0.1F;
        first.signal_norm = 0.1F;
        second.signal_norm = 10;
        run.see({first, second});
        CHECK(run.bits(0).forward == 8);
        CHECK(run.bits(1).forward == 4);
    }

    TEST_CASE("a layer without products keeps 8 bits and raises nobody else's") {
        PrecisionOptions options = kNumGeom;
        options.levels = {4, 8, 16, 32};
        PolicyRun run(options, schema_of({{.count = 1, .macs = 1}, {.count = 1, .macs = 0}}));
        LayerStatistics norm;
        norm.signal_norm = 1;
        run.see({felt(0.1, 0.1), norm});
        CHECK(run.bits(0) == LayerBits{.forward = 4, .backward = 4, .optimizer = 8});
        CHECK(run.bits(1) == LayerBits{.forward = 8, .backward = 8, .optimizer = 8});
        run.plan().layers[1].forward = 16;  // an alarm
        run.see({LayerStatistics{}, LayerStatistics{}});
        CHECK(run.bits(1).forward == 8);
    }

    TEST_CASE("raised by an alarm, the plan goes down again when it may") {
        PolicyRun run(kNumGeom, 1);
        run.see({felt(0.1, 0.1)});
        run.plan().layers[0].forward = run.plan().layers[0].backward = 8;
        CHECK_FALSE(run.see({LayerStatistics{}}).empty());
        CHECK(run.bits() == LayerBits{.forward = 4, .backward = 4, .optimizer = 8});
    }
}
