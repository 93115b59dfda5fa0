#include "core/precision/policy.hpp"

#include "core/error.hpp"
#include "core/precision/detail/policies.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace dither {
namespace {

/// How much room, in bits, a lower level must leave before the plan goes down to it.
constexpr double kHysteresisBits = 0.25;

using Maker = std::unique_ptr<Policy> (*)(const PrecisionOptions&, const Schema&);

constexpr std::array kPolicies{
    ChoiceRow<Maker>{"fp32", "32 bits everywhere", make_fp32},
    ChoiceRow<Maker>{"uniform", "precision.bits forward, backward and in the optimizer", make_uniform},
    ChoiceRow<Maker>{"gradient", "bits rise as the gradient falls, all layers alike", make_gradient},
    ChoiceRow<Maker>{"numgeom", "each layer by its curvature and its gradient's error", make_numgeom},
    ChoiceRow<Maker>{"numgeom_literal", "the published rule of numerical geometry", make_numgeom_literal},
};

}  // namespace

PrecisionPlan local_plan(std::size_t layers, int forward, int backward, int optimizer) {
    return {std::vector<LayerBits>(layers, {.forward = forward, .backward = backward, .optimizer = optimizer})};
}

std::vector<bool> with_products(const Schema& schema) {
    std::vector<bool> products;
    for (const LayerSpec& layer : schema.layers())
        products.push_back(layer.macs > 0);
    return products;
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
    return std::isfinite(value) && value > 0 ? binary_logarithm(value) : std::numeric_limits<double>::infinity();
}

double joint_norm(std::span<const double> norms) {
    return std::sqrt(squared_norm(norms));
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

std::vector<Choice> policy_choices() {
    return choices_of(kPolicies);
}

std::unique_ptr<Policy> make_policy(const PrecisionOptions& options, const Schema& schema) {
    [[maybe_unused]] const Levels levels(options.levels);  // bad ones are refused, whoever uses them
    return choose(kPolicies, "precision.policy", options.policy)(options, schema);
}

}  // namespace dither
