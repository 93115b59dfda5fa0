#include "core/precision/error_model.hpp"
#include "tests/unit/core/precision/policy_run.hpp"

#include <doctest/doctest.h>
#include <cmath>
#include <vector>

using namespace dither;

namespace {

LayerStatistics felt(double forward, double backward, double signal = 1) {
    LayerStatistics s;
    s.forward_sensitivity = static_cast<float>(forward);
    s.backward_sensitivity = static_cast<float>(backward);
    s.signal_norm = static_cast<float>(signal);
    return s;
}

const PrecisionOptions kLearned{.policy = "learned", .levels = kFine, .target_error = 0.1, .smoothing = 1};

}  // namespace

TEST_SUITE("core/precision/policies/learned") {
    TEST_CASE("starts at precision.bits and waits for measurements") {
        PolicyRun run(kLearned, 1);
        CHECK(run.policy().probe() == Probe::sensitivity);
        CHECK(run.bits() == LayerBits{.forward = 8, .backward = 8, .optimizer = 8});
        CHECK(run.see({LayerStatistics{}}).empty());
    }

    TEST_CASE("bits settle where the predicted error is the target's") {
        const std::vector<LayerStatistics> seen{felt(1, 0.5), felt(0.2, 2), felt(0.02, 0.02)};
        for (const double target : {1.0, 0.3, 0.1, 0.01}) {
            PrecisionOptions options = kLearned;
            options.target_error = target;
            PolicyRun run(options, 3);
            for (int round = 0; round < 20; ++round)
                run.see(seen);
            CHECK(predicted(seen, run.plan()) <= target * 1.01);
            CHECK(predicted(seen, run.plan()) > target / 4);  // a level is at most a bit too wide
            CHECK(run.see(seen).empty());
            CHECK(run.bits(0).forward > run.bits(2).forward);
        }
    }

    TEST_CASE("at the end every place buys its last bit at the same price") {
        const std::vector<LayerStatistics> seen{felt(1, 2), felt(0.5, 3)};
        PolicyRun run(kLearned, 2);
        for (int round = 0; round < 30; ++round)
            run.see(seen);
        // Four layer statistics, then the bits: see Known in learned.cpp. dE/db is about proportional to E.
        const std::vector<double> state = run.policy().state();
        REQUIRE(state.size() == 2 * 6 + 1);
        const auto marginal = [&](double error, double cost, double bits) {
            const double reach = std::exp2(bits - 1) - 1;
            return error * error * (reach + 1) / std::pow(reach, 3) / cost;
        };
        const double first = marginal(1, 1, state[4]);
        CHECK(marginal(2 * std::sqrt(kBackwardDamping), 2, state[5]) == doctest::Approx(first).epsilon(0.02));
        CHECK(marginal(0.5, 1, state[10]) == doctest::Approx(first).epsilon(0.02));
        CHECK(marginal(3 * std::sqrt(kBackwardDamping), 2, state[11]) == doctest::Approx(first).epsilon(0.02));
    }

    TEST_CASE("bits follow the gradient down within a few rounds") {
        PolicyRun run(kLearned, 1);
        for (int round = 0; round < 10; ++round)
            run.see({felt(0.5, 0.5, 1)});
        const int before = run.bits().forward;
        for (int round = 0; round < 10; ++round)
            run.see({felt(0.5, 0.5, 1.0 / 16)});
        CHECK(run.bits().forward >= before + 3);
        CHECK(run.bits().forward <= before + 5);
    }

    TEST_CASE("what feels nothing ends at the lowest level, and a change names the bit and its price") {
        PolicyRun run(kLearned, 1);
        const auto changes = run.see({felt(0, 0)});
        REQUIRE_FALSE(changes.empty());
        CHECK(changes[0].reason.starts_with("b = 4.00 at the price 2^-4.00; step error 0, target 0.1"));
        for (int round = 0; round < 5; ++round)
            run.see({felt(0, 0)});
        CHECK(run.bits().forward == 2);
        for (int round = 0; round < 5; ++round)  // and comes back
            run.see({felt(1, 1)});
        CHECK(run.bits().forward > 4);
    }
}
