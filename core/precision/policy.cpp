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
    ChoiceRow<Maker>{"amp", "mixed precision: 16 bits forward, 32 elsewhere", make_amp},
    ChoiceRow<Maker>{"gradient", "bits rise as the gradient falls, all layers alike", make_gradient},
    ChoiceRow<Maker>{"curvature", "each layer by its curvature, beside its first gradient", make_curvature},
    ChoiceRow<Maker>{"numgeom", "the cheapest bits whose predicted error of a step stays below precision.target_error",
                     make_numgeom},
    ChoiceRow<Maker>{"numgeom_literal", "the published rule of numerical geometry", make_numgeom_literal},
    ChoiceRow<Maker>{"loss", "AdaQuantFL: bits rise as the loss falls, the uplink's too", make_loss},
    ChoiceRow<Maker>{"plateau", "DAdaQuant: bits rise when the loss stops falling, the uplink's too", make_plateau},
    ChoiceRow<Maker>{"range", "FedDQ: the uplink's bits fall with the range of updates", make_range},
    ChoiceRow<Maker>{"hawq", "HAWQ-V2: the least curvature times rounding error under precision.bit_budget", make_hawq},
    ChoiceRow<Maker>{"learned", "bits trained by gradient descent towards precision.target_error", make_learned},
};

/// Every width that an update may travel in, ending in 32 as levels must.
Levels uplink_widths() {
    std::vector<int> widths;
    for (int bits = 2; bits <= kWidestUplink; ++bits)
        widths.push_back(bits);
    widths.push_back(kFullBits);
    return Levels(widths);
}

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

int optimizer_bits(const Levels& levels, int bits) {
    return std::max(bits, levels.raise(kLeastOptimizerBits));
}

PrecisionPlan starting_plan(const Levels& levels, const std::vector<bool>& products, int bits) {
    const int start = levels.raise(bits);
    PrecisionPlan plan = local_plan(products.size(), start, start, optimizer_bits(levels, start));
    for (std::size_t i = 0; i < products.size(); ++i)
        if (!products[i])
            plan.layers[i].forward = plan.layers[i].backward = levels.raise(kUndecidedBits);
    return plan;
}

int uplink_bits(double raw, int current) {
    return std::min(raise_with_hysteresis(uplink_widths(), raw, current), kWidestUplink);
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

void PlanEditor::finish(const Levels& levels, const std::vector<bool>& products) {
    int widest = levels.raise(kLeastOptimizerBits);
    for (std::size_t i = 0; i < products.size(); ++i) {
        if (products[i]) {
            widest = std::max({widest, plan_.layers[i].forward, plan_.layers[i].backward});
            continue;
        }
        for (const Phase phase : {Phase::forward, Phase::backward})
            set(i, phase, levels.raise(kUndecidedBits), "no products to round");
    }
    widest = levels.raise(widest);
    set_all(Phase::optimizer, widest, fmt::format("the widest of all layers and phases: {} bits", widest));
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

double smooth_jumps(double known, float measured, double weight) {
    if (measured >= 0 && std::isfinite(measured) && known > 0 && std::isfinite(known)) {
        const auto value = static_cast<double>(measured);
        const double near = std::clamp(value, known / kLargestJump, known * kLargestJump);
        return known * binary_power(weight * binary_logarithm(near / known));
    }
    return smooth(known, measured, weight);
}

void learn(std::span<LayerSensitivity> known, std::span<const LayerStatistics> measured, double weight) {
    require(known.size() == measured.size(), "sensitivities of {} layers, statistics of {}", known.size(),
            measured.size());
    const auto probed = [](const LayerStatistics& s) {
        return s.forward_sensitivity >= 0 || s.backward_sensitivity >= 0;
    };
    if (std::ranges::none_of(measured, probed))
        return;
    double squares = 0;
    for (const LayerStatistics& s : measured)
        if (s.signal_norm > 0)
            squares += static_cast<double>(s.signal_norm) * static_cast<double>(s.signal_norm);
    const double signal = std::sqrt(squares);
    const auto share = [&](float norm) {
        return norm >= 0 && signal > 0 ? static_cast<float>(static_cast<double>(norm) / signal) : norm;
    };
    for (std::size_t i = 0; i < known.size(); ++i) {
        known[i].forward = smooth_jumps(known[i].forward, share(measured[i].forward_sensitivity), weight);
        known[i].backward = smooth_jumps(known[i].backward, share(measured[i].backward_sensitivity), weight);
        known[i].signal = smooth_jumps(known[i].signal, share(measured[i].signal_norm), weight);
        known[i].gain = smooth_jumps(known[i].gain, measured[i].step_gain, weight);
    }
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
