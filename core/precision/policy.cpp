#include "core/precision/policy.hpp"

#include "core/error.hpp"
#include "core/precision/policies/policies.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dither {
namespace {

/// How much room, in bits, a lower level must leave before the plan goes down to it.
constexpr double kHysteresisBits = 0.25;

}  // namespace

PrecisionPlan local_plan(std::size_t layers, int forward, int backward, int optimizer) {
    return {std::vector<LayerBits>(layers, {.forward = forward, .backward = backward, .optimizer = optimizer})};
}

void PlanEditor::set(std::size_t layer, Phase phase, int bits, std::string reason) {
    int& current = plan_.layers[layer][phase];
    if (current == bits)
        return;
    changes_.push_back({.layer = layer, .phase = phase, .from = current, .to = bits, .reason = std::move(reason)});
    current = bits;
}

void PlanEditor::set_all(Phase phase, int bits, const std::string& reason) {
    for (std::size_t layer = 0; layer < plan_.layers.size(); ++layer)
        set(layer, phase, bits, reason);
}

bool is_known(double value) {
    return !(value < 0);
}

double newest(double known, float measured) {
    return measured < 0 ? known : static_cast<double>(measured);
}

double smooth(double known, float measured, double weight) {
    if (measured < 0)
        return known;
    const auto value = static_cast<double>(measured);
    return is_known(known) && std::isfinite(known) ? known + weight * (value - known) : value;
}

int raise_with_hysteresis(const Levels& levels, double raw, int current) {
    return std::max(levels.raise(raw), std::min(current, levels.raise(raw + kHysteresisBits)));
}

double safe_log2(double value) {
    return std::isfinite(value) && value > 0 ? std::log2(value) : std::numeric_limits<double>::infinity();
}

double joint_norm(std::span<const double> norms) {
    double squares = 0;
    for (const double norm : norms)
        squares += norm * norm;
    return std::sqrt(squares);
}

void check_observation(const Observation& observation, const PrecisionPlan& plan, std::size_t layers) {
    require(observation.layers.size() == layers && plan.layers.size() == layers,
            "an observation of {} layers and a plan for {}, the model has {}", observation.layers.size(),
            plan.layers.size(), layers);
}

void restore_numbers(std::span<const double> state, std::span<double> into) {
    if (state.size() != into.size())
        throw FormatError(fmt::format("precision policy: {} numbers of state, expected {}", state.size(), into.size()));
    std::copy(state.begin(), state.end(), into.begin());
}

void Policy::restore(std::span<const double> state) {
    restore_numbers(state, {});
}

std::unique_ptr<Policy> make_policy(const PrecisionOptions& options, const Schema& schema) {
    const Levels levels(options.levels);
    const std::size_t layers = schema.layer_count();
    if (options.policy == "fp32")
        return make_constant(kFullBits, layers);
    if (options.policy == "uniform") {
        if (!levels.contains(options.bits))
            throw InputError(fmt::format("precision.bits = {}: expected one of precision.levels [{}]", options.bits,
                                         fmt::join(levels.bits(), ", ")));
        return make_constant(options.bits, layers);
    }
    if (options.policy == "gradient")
        return make_gradient(options, layers);
    if (options.policy == "numgeom")
        return make_numgeom(options, layers);
    if (options.policy == "numgeom_literal")
        return make_numgeom_literal(options, layers);
    throw InputError(fmt::format(
        "precision.policy = \"{}\": expected fp32, uniform, gradient, numgeom or numgeom_literal", options.policy));
}

}  // namespace dither
