#include "core/precision/error_model.hpp"

#include "core/error.hpp"
#include "core/precision/ledger.hpp"
#include "tests/unit/core/schema_of.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>
#include <cmath>
#include <limits>
#include <vector>

using namespace dither;
using doctest::Approx;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Two layers with products and a norm between them.
Schema three_layers() {
    return schema_of({{.count = 4, .macs = 100}, {.count = 2, .macs = 0}, {.count = 4, .macs = 300}});
}

std::vector<LayerSensitivity> three_known() {
    return {{.forward = 0.3, .backward = 0.6, .signal = 3, .gain = 1},
            {.signal = 0},
            {.forward = 0.4, .backward = 0.8, .signal = 4, .gain = 1}};
}

}  // namespace

TEST_SUITE("core/precision/error_model") {
    TEST_CASE("functionals compose as functions do") {
        const ErrorFunctional forward{.lipschitz = 2, .delta = 0.5};
        const ErrorFunctional backward{.lipschitz = 3, .delta = 0.25};
        const ErrorFunctional both = compose(backward, forward);
        CHECK(both == ErrorFunctional{.lipschitz = 6, .delta = 1.75});
        for (const double eps : {0.0, 1.0, 2.5})
            CHECK(both(eps) == backward(forward(eps)));
        CHECK(compose(ErrorFunctional{}, forward) == forward);
        const ErrorFunctional update{.lipschitz = 0.5, .delta = 1};
        CHECK(compose(update, compose(backward, forward)) == compose(compose(update, backward), forward));
    }

    TEST_CASE("the functionals of a step follow the layers forward, then back, then the optimizer") {
        std::vector<LayerStatistics> statistics(3);
        statistics[0].lipschitz = 2;
        statistics[2].lipschitz = 3;
        statistics[2].step_gain = 5;
        PrecisionPlan plan = PrecisionPlan::uniform(3, 32);
        const StepFunctionals exact = step_functionals(three_layers(), statistics, plan);
        CHECK(exact.forward == ErrorFunctional{.lipschitz = 6, .delta = 0});
        CHECK(exact.backward == exact.forward);
        CHECK(exact.step() == ErrorFunctional{.lipschitz = 180, .delta = 0});
        plan.layers[0] = {.forward = 4, .backward = 4};
        plan.layers[2].optimizer = 8;
        const StepFunctionals rounded = step_functionals(three_layers(), statistics, plan);
        CHECK(rounded.forward.delta == Approx(3 * 2 * 2 / 14.0));  // the last layer magnifies the first one's error
        CHECK(rounded.backward.delta == Approx(2 * 2 / 14.0));     // the first one comes last
        CHECK(rounded.update.delta == Approx(5 / 254.0));
        CHECK(rounded.step().delta == Approx(5 * (6 * rounded.forward.delta + rounded.backward.delta) + 5 / 254.0));
        CHECK_THROWS_AS(step_functionals(three_layers(), {}, plan), PreconditionError);
    }

    TEST_CASE("squares of the layers' errors add up, the backward ones damped, relative to the whole signal") {
        const ErrorModel model(three_layers(), three_known());
        REQUIRE(model.complete());
        const PrecisionPlan four = PrecisionPlan::uniform(3, 4);
        const double forward = kForwardDamping * (0.09 + 0.16) / 25;
        const double backward = (0.36 + 0.64) / 25;
        CHECK(model.relative_error(four) == Approx(std::sqrt(forward + backward / 19)));
        CHECK(model.relative_error(PrecisionPlan::uniform(3, 32)) == 0);
        PrecisionPlan mixed = four;
        for (LayerBits& bits : mixed.layers)
            bits.backward = 32;
        CHECK(model.relative_error(mixed) == Approx(std::sqrt(forward)));
        mixed.layers[0].forward = 8;  // falls as the steps' power of 4/3
        CHECK(model.relative_error(mixed) ==
              Approx(std::sqrt(kForwardDamping * (0.09 * std::pow(7.0 / 127, 4.0 / 3) + 0.16) / 25)));
    }

    TEST_CASE("as the learning rate falls, the forward error weighs more, and the backward one does not") {
        const ErrorModel peak(three_layers(), three_known());
        const ErrorModel quarter(three_layers(), three_known(), 0.25);
        const ErrorModel end(three_layers(), three_known(), 0);
        PrecisionPlan forward = PrecisionPlan::uniform(3, 32);
        PrecisionPlan backward = forward;
        for (std::size_t i = 0; i < 3; ++i) {
            forward.layers[i].forward = 4;
            backward.layers[i].backward = 4;
        }
        CHECK(quarter.relative_error(forward) == Approx(2 * peak.relative_error(forward)));
        CHECK(quarter.relative_error(backward) == peak.relative_error(backward));
        CHECK(end.relative_error(forward) == Approx(peak.relative_error(forward) / std::sqrt(kLeastRate)));
    }

    TEST_CASE("the layers' shares sum to the whole prediction") {
        const ErrorModel model(three_layers(), three_known());
        PrecisionPlan plan = PrecisionPlan::uniform(3, 4);
        plan.layers[0] = {.forward = 8, .backward = 2};
        double sum = 0;
        for (std::size_t layer = 0; layer < 3; ++layer) {
            const LayerError share = model.layer_error(layer, plan.layers[layer]);
            sum += share.forward + share.backward;
        }
        CHECK(sum == Approx(model.relative_error(plan) * model.relative_error(plan)));
        CHECK(model.layer_error(1, plan.layers[1]).forward == 0);
    }

    TEST_CASE("a layer whose steps the optimizer doubles counts for four") {
        std::vector<LayerSensitivity> known = three_known();
        known[0].gain = 2;
        const ErrorModel model(three_layers(), known);
        PrecisionPlan plan = PrecisionPlan::uniform(3, 32);
        plan.layers[0].forward = 4;
        CHECK(model.relative_error(plan) == Approx(std::sqrt(kForwardDamping * 4 * 0.09 / (4 * 9 + 16))));
        known[0].gain = kNotMeasured;
        CHECK(ErrorModel(three_layers(), known).relative_error(plan) == Approx(std::sqrt(kForwardDamping * 0.09 / 25)));
    }

    TEST_CASE("places cost what a bit of their products costs") {
        const ErrorModel model(three_layers(), three_known());
        const std::vector<BitPlace> places = model.places();
        REQUIRE(places.size() == 4);
        CHECK(model.where()[0].layer == 0);
        CHECK(model.where()[1].phase == Phase::backward);
        CHECK(model.where()[2].layer == 2);
        PrecisionPlan plan = PrecisionPlan::uniform(3, 8);
        plan.layers[2].backward = 4;
        CHECK(cost_of(places, bits_of(plan, model.where())) == count_bit_ops(three_layers(), plan, 1, 0).training);
        CHECK(std::sqrt(error_of(places, bits_of(plan, model.where()))) == model.relative_error(plan));
    }

    TEST_CASE("what has not been measured, or to no number, cannot be predicted") {
        const auto predicted = [](const std::vector<LayerSensitivity>& known) {
            const ErrorModel model(three_layers(), known);
            CHECK(model.complete() == std::isfinite(model.relative_error(PrecisionPlan::uniform(3, 32))));
            return model.complete();
        };
        CHECK(predicted(three_known()));
        for (const double bad : {static_cast<double>(kNotMeasured), kInfinity, std::nan("")}) {
            std::vector<LayerSensitivity> known = three_known();
            known[2].forward = bad;
            CHECK_FALSE(predicted(known));
            known = three_known();
            known[0].backward = bad;
            CHECK_FALSE(predicted(known));
            known = three_known();
            known[0].signal = bad;
            CHECK_FALSE(predicted(known));
            known = three_known();
            known[1] = {.forward = bad, .backward = bad, .signal = bad};  // the norm's are not needed
            CHECK(predicted(known));
        }
        std::vector<LayerSensitivity> silent = three_known();
        silent[0].signal = silent[2].signal = 0;
        CHECK_FALSE(predicted(silent));
        CHECK_THROWS_AS(ErrorModel(three_layers(), std::vector<LayerSensitivity>(2)), PreconditionError);
    }

    TEST_CASE("a plan within the budget stays as it is") {
        const ErrorModel model(three_layers(), three_known());
        PrecisionPlan plan = PrecisionPlan::uniform(3, 8);
        CHECK(keep_within_budget(three_layers(), Levels({4, 8, 16, 32}), model, 8, plan).empty());
        CHECK(plan == PrecisionPlan::uniform(3, 8));
    }

    TEST_CASE("bits that the job fixes stay, and the others pay for them") {
        const ErrorModel model(three_layers(), three_known());
        PrecisionPlan plan = PrecisionPlan::uniform(3, 8);
        const auto forward_is_fixed = [](std::size_t, Phase phase, int bits) {
            return phase == Phase::forward ? 8 : bits;
        };
        keep_within_budget(three_layers(), Levels({4, 8, 16, 32}), model, 6, plan, forward_is_fixed);
        for (const std::size_t layer : {0, 2})
            CHECK(plan.layers[layer].forward == 8);
        CHECK(mean_bits(three_layers(), plan) <= 6);
        keep_within_budget(three_layers(), Levels({4, 8, 16, 32}), model, 4, plan, forward_is_fixed);
        CHECK(plan.layers[0].backward == 4);  // as low as it goes
        CHECK(plan.layers[2].backward == 4);
        CHECK(plan.layers[0].forward == 8);
    }

    TEST_CASE("a budget takes bits from where they are missed least, and says so") {
        std::vector<LayerSensitivity> known = three_known();
        known[2].backward = 0.01;  // half of all work
        const ErrorModel model(three_layers(), known);
        PrecisionPlan plan = PrecisionPlan::uniform(3, 8);
        const auto changes = keep_within_budget(three_layers(), Levels({4, 8, 16, 32}), model, 6, plan);
        REQUIRE(changes.size() == 1);
        CHECK(changes[0].layer == 2);
        CHECK(changes[0].phase == Phase::backward);
        CHECK(changes[0].from == 8);
        CHECK(changes[0].to == 4);
        CHECK(changes[0].reason.starts_with("mean of 8.00 bits > budget 6.00; brings 0.000459 to the step's error"));
        CHECK(mean_bits(three_layers(), plan) == 6);
        CHECK(plan.layers[1] == LayerBits{8, 8, 8, 8, 8});
    }

    TEST_CASE("without measurements a budget takes all layers as alike") {
        const ErrorModel model(three_layers(), std::vector<LayerSensitivity>(3));
        PrecisionPlan plan = PrecisionPlan::uniform(3, 8);
        const auto changes = keep_within_budget(three_layers(), Levels({4, 8, 16, 32}), model, 6, plan);
        CHECK(mean_bits(three_layers(), plan) == 6);
        REQUIRE_FALSE(changes.empty());
        CHECK(changes[0].reason == "mean of 8.00 bits > budget 6.00; sensitivities are not known");
        CHECK(plan.layers[2].backward == 4);  // where a bit costs most
    }

    TEST_CASE("any plan ends within any budget that the levels can meet, and no bits rise") {
        CHECK(rc::check([] {
            const std::vector<int> widths{2, 3, 4, 6, 8, 16, 32};
            const Levels levels(widths);
            PrecisionPlan plan = PrecisionPlan::uniform(3, 8);
            for (LayerBits& bits : plan.layers) {
                bits.forward = widths[*rc::gen::inRange<std::size_t>(0, widths.size())];
                bits.backward = *rc::gen::inRange(2, 17);  // a job may fix what is no level
            }
            std::vector<LayerSensitivity> known = three_known();
            if (*rc::gen::arbitrary<bool>())
                known[0].forward = kNotMeasured;
            const PrecisionPlan before = plan;
            const double budget = *rc::gen::inRange(20, 320) / 10.0;
            keep_within_budget(three_layers(), levels, ErrorModel(three_layers(), known), budget, plan);
            RC_ASSERT(mean_bits(three_layers(), plan) <= budget * (1 + 1e-12));
            for (std::size_t i = 0; i < 3; ++i)
                for (const Phase phase : {Phase::forward, Phase::backward}) {
                    const int bits = plan.layers[i][phase];
                    RC_ASSERT(bits <= before.layers[i][phase]);
                    RC_ASSERT((bits == before.layers[i][phase] || levels.contains(bits)));
                }
        }));
    }

    TEST_CASE("a budget below the lowest level gives the lowest level everywhere") {
        const ErrorModel model(three_layers(), three_known());
        PrecisionPlan plan = PrecisionPlan::uniform(3, 8);
        keep_within_budget(three_layers(), Levels({4, 8, 32}), model, 3, plan);
        CHECK(mean_bits(three_layers(), plan) == 4);
    }
}
