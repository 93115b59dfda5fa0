#include "core/precision/sensitivity.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/precision/allocation.hpp"
#include "tests/unit/core/precision/small_networks.hpp"

#include <doctest/doctest.h>
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

using namespace dither;

namespace {

const StreamKey kKey{.seed = 11, .client = 4, .round = 9};

std::vector<LayerStatistics> measured(SmallNetwork& network, std::uint32_t round = 1) {
    std::vector<LayerStatistics> statistics(network.schema().layer_count());
    StreamKey key = kKey;
    key.round = round;
    SensitivityProbe().measure(*network.model, *network.loss, network.batch(0), key, statistics);
    return statistics;
}

PrecisionPlan plan_of(const SmallNetwork& network, int forward, int backward) {
    PrecisionPlan plan = PrecisionPlan::uniform(network.schema().layer_count(), kFullBits);
    for (LayerBits& bits : plan.layers) {
        bits.forward = forward;
        bits.backward = backward;
    }
    return plan;
}

}  // namespace

TEST_SUITE("core/precision/sensitivity") {
    TEST_CASE("the same key measures the same, and another one nearly the same") {
        for (const std::string name : SmallNetwork::kNames) {
            CAPTURE(name);
            SmallNetwork network(name, 1);
            const std::vector<LayerStatistics> once = measured(network);
            CHECK(measured(network) == once);
            const std::vector<LayerStatistics> other = measured(network, 2);
            CHECK(other != once);
            for (std::size_t i = 0; i < once.size(); ++i) {
                if (network.schema().layers()[i].macs == 0)
                    continue;
                CHECK(once[i].forward_sensitivity > 0);
                CHECK(once[i].forward_sensitivity == other[i].forward_sensitivity);  // rounds to the nearest
                CHECK(once[i].backward_sensitivity == doctest::Approx(other[i].backward_sensitivity).epsilon(0.35));
            }
        }
    }

    TEST_CASE("layers without products are not measured, and nothing else is") {
        SmallNetwork network("batch_norm", 1);
        const std::vector<LayerStatistics> statistics = measured(network);
        for (std::size_t i = 0; i < statistics.size(); ++i) {
            const bool products = network.schema().layers()[i].macs > 0;
            CHECK((statistics[i].forward_sensitivity >= 0) == products);
            CHECK((statistics[i].backward_sensitivity >= 0) == products);
            LayerStatistics rest = statistics[i];
            rest.forward_sensitivity = rest.backward_sensitivity = kNotMeasured;
            CHECK(rest == LayerStatistics{});
        }
        CHECK(network.schema().layers()[1].macs == 0);
    }

    TEST_CASE("a measurement leaves parameters, running statistics and what observers have learnt as they were") {
        for (const std::string name : SmallNetwork::kNames) {
            CAPTURE(name);
            SmallNetwork network(name, 1);
            SmallNetwork other(name, 1);
            const PrecisionPlan plan = plan_of(network, 8, 8);
            for (SmallNetwork* each : {&network, &other})
                each->step(plan, 100);  // so that there are observed ranges
            const std::vector<float> before(network.model->parameters().begin(), network.model->parameters().end());
            measured(network);
            measure_step_error(*network.model, *network.loss, network.batch(3), plan_of(network, 4, 4), kKey);
            CHECK(std::ranges::equal(network.model->parameters(), before));
            for (SmallNetwork* each : {&network, &other})
                each->step(plan, 101);
            CHECK(std::ranges::equal(network.model->parameters(), other.model->parameters()));
        }
    }

    TEST_CASE("the error falls with the bits about as the steps of the grid do") {
        for (const std::string name : SmallNetwork::kNames)
            for (const Phase phase : {Phase::forward, Phase::backward}) {
                CAPTURE(name);
                CAPTURE(std::string(name_of(phase)));
                SmallNetwork network(name, 2);
                double errors[3] = {};
                for (std::uint32_t draw = 0; draw < 16; ++draw)
                    for (int i = 0; i < 3; ++i) {
                        const int bits = 4 + 2 * i;
                        const bool forward = phase == Phase::forward;
                        StreamKey key = kKey;
                        key.step = draw;
                        const StepError error = measure_step_error(
                            *network.model, *network.loss, network.batch(draw),
                            plan_of(network, forward ? bits : kFullBits, forward ? kFullBits : bits), key);
                        CHECK(error.gradient > 0);
                        CHECK((forward ? error.backward : error.forward) == 0);
                        CHECK(error.total == (forward ? error.forward : error.backward));
                        errors[i] += error.total * error.total;
                    }
                for (int i = 1; i < 3; ++i) {
                    // Forward, units that rounding carries over their kink come on top: each is as wrong as before,
                    // and their number falls with the steps, not with the squares of the steps.
                    const double steps = variance_factor(4 + 2 * i) / variance_factor(4);
                    CHECK(errors[i] / errors[0] > steps / 2);
                    CHECK(errors[i] / errors[0] < (phase == Phase::forward ? 2 * std::sqrt(steps) : 3 * steps));
                    CHECK(errors[i] < errors[i - 1]);
                }
            }
    }

    TEST_CASE("a change of another layer's gradient counts as much more as the optimizer magnifies it") {
        SmallNetwork network("mlp", 1);
        const auto with_gains = [&network](float first, float second) {
            std::vector<LayerStatistics> statistics(2);
            statistics[0].step_gain = first;
            statistics[1].step_gain = second;
            SensitivityProbe().measure(*network.model, *network.loss, network.batch(0), kKey, statistics);
            return statistics;
        };
        const std::vector<LayerStatistics> plain = with_gains(kNotMeasured, kNotMeasured);
        const std::vector<LayerStatistics> even = with_gains(5, 5);
        const std::vector<LayerStatistics> uneven = with_gains(1, 3);
        for (std::size_t i = 0; i < 2; ++i)
            CHECK(even[i].forward_sensitivity == plain[i].forward_sensitivity);
        // The squares add up over the layers: ours + 9 theirs, and ours + theirs / 9.
        CHECK(uneven[0].forward_sensitivity > 1.1F * plain[0].forward_sensitivity);
        CHECK(uneven[0].forward_sensitivity < 3 * plain[0].forward_sensitivity);
        CHECK(uneven[1].forward_sensitivity < plain[1].forward_sensitivity);
        CHECK(uneven[1].forward_sensitivity > plain[1].forward_sensitivity / 3);
        // What the backward pass rounds in the first layer reaches its own gradient alone.
        CHECK(uneven[0].backward_sensitivity == doctest::Approx(plain[0].backward_sensitivity));
    }

    TEST_CASE("32 bits make no error") {
        SmallNetwork network("mlp", 1);
        const StepError error =
            measure_step_error(*network.model, *network.loss, network.batch(0), plan_of(network, 32, 32), kKey);
        CHECK(error.total == 0);
        CHECK(error.forward == 0);
        CHECK(error.backward == 0);
    }

    TEST_CASE("a layer's own width, where the job fixes one, is what is measured") {
        QuantizeOptions fixed;
        fixed.weights.bits = fixed.activations.bits = 8;
        SmallNetwork plain("mlp", 1);
        SmallNetwork wide("mlp", 1, fixed);
        CHECK(measured(wide)[0].forward_sensitivity < 0.7F * measured(plain)[0].forward_sensitivity);
        CHECK(measured(wide)[0].backward_sensitivity > 0.7F * measured(plain)[0].backward_sensitivity);
    }

    TEST_CASE("learned ranges count neither as layers nor as errors") {
        QuantizeOptions learned;
        learned.weights.observer = learned.activations.observer = Observer::lsq;
        SmallNetwork network("mlp", 1, learned);
        const std::vector<LayerStatistics> statistics = measured(network);
        REQUIRE(statistics.size() == 4);
        CHECK(statistics[1] == LayerStatistics{});
        CHECK(statistics[0].forward_sensitivity > 0);
    }

    TEST_CASE("statistics and plans of another model are refused") {
        SmallNetwork network("mlp", 1);
        std::vector<LayerStatistics> few(1);
        CHECK_THROWS_AS(SensitivityProbe().measure(*network.model, *network.loss, network.batch(0), kKey, few),
                        PreconditionError);
        CHECK_THROWS_AS(
            measure_step_error(*network.model, *network.loss, network.batch(0), PrecisionPlan::uniform(1, 4), kKey),
            PreconditionError);
    }
}
