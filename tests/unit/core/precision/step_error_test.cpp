// The error model against what it predicts: the same step in fp32 and under the plan.
#include "core/precision/curvature.hpp"
#include "core/precision/error_model.hpp"
#include "core/precision/sensitivity.hpp"
#include "core/vector_math.hpp"
#include "tests/unit/core/precision/small_networks.hpp"

#include <doctest/doctest.h>
#include <cmath>
#include <string>
#include <vector>

using namespace dither;

namespace {

/// What a node measures on one batch, as a policy has it for SGD; signals are those of that batch.
std::vector<LayerSensitivity> sensitivities(SmallNetwork& network) {
    const Schema& schema = network.schema();
    std::vector<LayerStatistics> statistics(schema.layer_count());
    const Batch batch = network.batch(77);
    SensitivityProbe().measure(*network.model, *network.loss, batch, {.seed = 5, .client = 1, .round = 1}, statistics);
    measure_step_error(*network.model, *network.loss, batch, PrecisionPlan::uniform(schema.layer_count(), kFullBits),
                       {});  // leaves the gradient in fp32
    std::vector<LayerSensitivity> layers;
    for (std::size_t i = 0; i < schema.layer_count(); ++i) {
        const auto gradient = schema.slice(std::span<const float>(network.model->gradients()), i);
        layers.push_back({.forward = statistics[i].forward_sensitivity,
                          .backward = statistics[i].backward_sensitivity,
                          .signal = std::sqrt(squared_norm(gradient)),
                          .gain = 1});
    }
    return layers;
}

double signal_of(std::span<const LayerSensitivity> layers) {
    double sum = 0;
    for (const LayerSensitivity& layer : layers)
        sum += layer.signal * layer.signal;
    return std::sqrt(sum);
}

/// ||error of one step||, without smoothing.
double predicted(const SmallNetwork& network, std::span<const LayerSensitivity> layers, const PrecisionPlan& plan) {
    const ErrorModel model(network.schema(), layers);
    REQUIRE(model.complete());
    double sum = 0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
        const LayerError error = model.layer_error(i, plan.layers[i]);
        sum += error.forward / kForwardDamping + error.backward / kBackwardDamping;
    }
    return std::sqrt(sum) * signal_of(layers);
}

struct Plan {
    int forward;
    int backward;
    int last_forward;  ///< of the last layer

    PrecisionPlan of(const Schema& schema) const {
        PrecisionPlan plan = PrecisionPlan::uniform(schema.layer_count(), kFullBits);
        for (LayerBits& bits : plan.layers) {
            bits.forward = forward;
            bits.backward = backward;
        }
        plan.layers.back().forward = last_forward;
        return plan;
    }
};

constexpr Plan kPlans[] = {{4, 4, 4}, {8, 4, 8}, {4, 8, 4}, {6, 4, 6}, {8, 4, 4}, {4, 8, 8}, {6, 6, 6}, {8, 8, 8}};

}  // namespace

TEST_SUITE("core/precision/step_error") {
    TEST_CASE("the predicted error of a plan is the measured one of a step, within a factor of two") {
        for (const std::string name : SmallNetwork::kNames)
            for (std::uint32_t seed = 1; seed <= 3; ++seed) {
                CAPTURE(name);
                CAPTURE(seed);
                SmallNetwork network(name, seed);
                const std::vector<LayerSensitivity> layers = sensitivities(network);
                const auto ratio = [&](const Plan& wanted) {
                    const PrecisionPlan plan = wanted.of(network.schema());
                    double squares = 0;
                    constexpr std::uint32_t kBatches = 8;
                    for (std::uint32_t batch = 0; batch < kBatches; ++batch) {
                        const StreamKey key{.seed = 9, .client = 2, .round = 1, .step = batch};
                        const double error =
                            measure_step_error(*network.model, *network.loss, network.batch(batch), plan, key).total;
                        squares += error * error / kBatches;
                    }
                    return std::sqrt(squares) / predicted(network, layers, plan);
                };
                for (const Plan& plan : kPlans) {
                    CAPTURE(plan.forward);
                    CAPTURE(plan.backward);
                    CAPTURE(plan.last_forward);
                    const double measured = ratio(plan);
                    CHECK(measured < 2);
                    CHECK(measured > 0.5);
                }
            }
    }

    TEST_CASE("no step errs by more than the composed functionals say, which take the worst direction everywhere") {
        for (const std::string name : SmallNetwork::kNames) {
            CAPTURE(name);
            SmallNetwork network(name, 6);
            const Schema& schema = network.schema();
            std::vector<LayerStatistics> statistics(schema.layer_count());
            const Batch batch = network.batch(77);
            CurvatureProbe().measure(*network.model, *network.loss, batch, Probe::curvature_norm,
                                     {.seed = 5, .client = 1, .round = 1}, statistics);
            for (const Plan& wanted : kPlans) {
                CAPTURE(wanted.forward);
                CAPTURE(wanted.backward);
                const PrecisionPlan plan = wanted.of(schema);
                const StepError error =
                    measure_step_error(*network.model, *network.loss, batch, plan, {.seed = 9, .round = 1});
                CHECK(error.total / error.gradient < step_functionals(schema, statistics, plan).step().delta);
            }
        }
    }

    // Less, where forward errors differ from batch to batch and average out too, which the model does not count on.
    TEST_CASE("smoothing leaves of the error at most twice what the model says") {
        for (const std::string name : SmallNetwork::kNames) {
            CAPTURE(name);
            SmallNetwork network(name, 4);
            std::vector<LayerSensitivity> layers = sensitivities(network);
            const std::size_t count = network.schema().parameters();
            const auto smoothed_under = [&](const PrecisionPlan& plan) {
                std::vector<float> average(count, 0.0F);
                for (std::uint32_t i = 0; i < 60; ++i) {
                    const StreamKey key{.seed = 9, .client = 2, .round = 1, .step = i};
                    network.gradient(network.batch(i), {.plan = &plan, .key = key, .branches = Branches::record});
                    blend_and_square(average, network.model->gradients(), 0.9F);
                }
                return average;
            };
            const Plan none{kFullBits, kFullBits, kFullBits};
            const std::vector<float> exact = smoothed_under(none.of(network.schema()));
            for (const Plan& wanted : kPlans) {
                CAPTURE(wanted.forward);
                CAPTURE(wanted.backward);
                const PrecisionPlan plan = wanted.of(network.schema());
                std::vector<float> error = smoothed_under(plan);
                for (std::size_t i = 0; i < count; ++i)
                    error[i] -= exact[i];
                const double expected = ErrorModel(network.schema(), layers).relative_error(plan) * signal_of(layers);
                const double measured = std::sqrt(squared_norm(std::span<const float>(error)));
                CHECK(measured < 2 * expected);
                CHECK(measured > expected / 8);
            }
        }
    }
}
