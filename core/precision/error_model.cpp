#include "core/precision/error_model.hpp"

#include "core/error.hpp"
#include "core/precision/detail/policies.hpp"
#include "core/precision/ledger.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dither {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool is_measured(double value) {
    return std::isfinite(value) && value >= 0;
}

/// Half a step of a grid of so many bits, relative to its range.
double half_step(int bits) {
    return bits == kFullBits ? 0 : 1 / (std::ldexp(1.0, bits) - 2);
}

double gain_of(const LayerSensitivity& layer) {
    return is_measured(layer.gain) ? layer.gain : 1;
}

double square(double x) {
    return x * x;
}

/// sum_i s_i^2, norms and other layers without products included: sensitivities speak of the whole gradient, too.
double squared_signal(std::span<const LayerSensitivity> layers) {
    double sum = 0;
    for (const LayerSensitivity& layer : layers)
        if (is_measured(layer.signal))
            sum += square(gain_of(layer) * layer.signal);
    return sum;
}

std::string budget_reason(double mean, double budget, const ErrorModel& model, double before, double after) {
    if (!model.complete())
        return fmt::format("mean of {:.2f} bits > budget {:.2f}; sensitivities are not known", mean, budget);
    return fmt::format("mean of {:.2f} bits > budget {:.2f}; brings {:.3g} to the step's error instead of {:.3g}", mean,
                       budget, after, before);
}

}  // namespace

ErrorFunctional compose(const ErrorFunctional& outer, const ErrorFunctional& inner) {
    return {.lipschitz = outer.lipschitz * inner.lipschitz, .delta = outer(inner.delta)};
}

StepFunctionals step_functionals(const Schema& schema, std::span<const LayerStatistics> layers,
                                 const PrecisionPlan& plan) {
    const std::size_t count = schema.layer_count();
    require(layers.size() == count && plan.layers.size() == count,
            "statistics of {} layers and a plan for {}, the model has {}", layers.size(), plan.layers.size(), count);
    StepFunctionals phases;
    const auto layer = [&](std::size_t i, int bits) {
        const double lipschitz = layers[i].lipschitz >= 0 ? static_cast<double>(layers[i].lipschitz) : 1;
        return ErrorFunctional{.lipschitz = lipschitz, .delta = 2 * lipschitz * half_step(bits)};
    };
    int narrowest = kFullBits;
    for (std::size_t i = 0; i < count; ++i) {
        if (schema.layers()[i].macs > 0) {
            phases.forward = compose(layer(i, plan.layers[i].forward), phases.forward);
            phases.backward = compose(phases.backward, layer(i, plan.layers[i].backward));
        }
        phases.update.lipschitz = std::max(i == 0 ? 0.0 : phases.update.lipschitz,
                                           layers[i].step_gain >= 0 ? static_cast<double>(layers[i].step_gain) : 1.0);
        narrowest = std::min(narrowest, plan.layers[i].optimizer);
    }
    phases.update.delta = phases.update.lipschitz * half_step(narrowest);
    return phases;
}

ErrorModel::ErrorModel(const Schema& schema, std::span<const LayerSensitivity> layers, double rate) {
    require(layers.size() == schema.layer_count(), "sensitivities of {} layers, the model has {}", layers.size(),
            schema.layer_count());
    const double signal = squared_signal(layers);
    const double forward = kForwardDamping / std::max(rate, kLeastRate);
    complete_ = signal > 0 && std::isfinite(signal);
    for (std::size_t i = 0; i < layers.size(); ++i) {
        const double macs = schema.layers()[i].macs;
        if (macs <= 0)
            continue;
        const LayerSensitivity& layer = layers[i];
        complete_ = complete_ && is_measured(layer.forward) && is_measured(layer.backward) && is_measured(layer.signal);
        const double weight = square(gain_of(layer)) / signal;
        where_.push_back({i, Phase::forward});
        places_.push_back({.cost = 2 * macs, .error = forward * weight * square(layer.forward), .kinked = true});
        where_.push_back({i, Phase::backward});
        places_.push_back({.cost = 4 * macs, .error = kBackwardDamping * weight * square(layer.backward)});
    }
    if (!complete_)
        for (BitPlace& place : places_)
            place.error = kInfinity;
}

std::vector<BitPlace> ErrorModel::places() const {
    return places_;
}

double ErrorModel::relative_error(const PrecisionPlan& plan) const {
    if (!complete_)
        return kInfinity;
    return std::sqrt(error_of(places_, bits_of(plan, where_)));
}

LayerError ErrorModel::layer_error(std::size_t layer, const LayerBits& bits) const {
    LayerError error;
    for (std::size_t i = 0; i < where_.size(); ++i)
        if (where_[i].layer == layer)
            (where_[i].phase == Phase::forward ? error.forward : error.backward) =
                error_of(std::span(&places_[i], 1), std::array{bits[where_[i].phase]});
    return error;
}

std::vector<int> bits_of(const PrecisionPlan& plan, std::span<const ErrorModel::Where> where) {
    std::vector<int> bits;
    for (const ErrorModel::Where& place : where) {
        require(place.layer < plan.layers.size(), "a plan for {} layers, layer {} has products", plan.layers.size(),
                place.layer);
        bits.push_back(plan.layers[place.layer][place.phase]);
    }
    return bits;
}

std::vector<PlanChange> keep_within_budget(const Schema& schema, const Levels& levels, const ErrorModel& model,
                                           double budget, PrecisionPlan& plan, const Granted& granted) {
    const double mean = mean_bits(schema, plan);
    if (mean <= budget)
        return {};
    const std::vector<int> current = bits_of(plan, model.where());
    const std::vector<BitPlace> all = model.places();
    std::vector<std::size_t> movable;
    std::vector<BitPlace> places;
    double allowed = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto& [layer, phase] = model.where()[i];
        const int least = levels.raise(granted(layer, phase, levels.lowest()));
        const bool moves = least < current[i];
        allowed += all[i].cost * (budget - (moves ? 0 : current[i]));
        if (!moves)
            continue;
        movable.push_back(i);
        places.push_back(all[i]);
        places.back().error = model.complete() ? all[i].error : 1;
        places.back().least = least;
        places.back().most = current[i];
    }
    const std::vector<int> chosen = best_within_cost(places, levels, allowed);
    PlanEditor editor(plan);
    for (std::size_t k = 0; k < places.size(); ++k) {
        const auto share = [&](int bits) { return std::sqrt(error_of(std::span(&places[k], 1), std::array{bits})); };
        const ErrorModel::Where& where = model.where()[movable[k]];
        editor.set(where.layer, where.phase, chosen[k],
                   budget_reason(mean, budget, model, share(current[movable[k]]), share(chosen[k])));
    }
    return std::move(editor).changes();
}

}  // namespace dither
