// The least loss that rounding can cost under a budget: HAWQ-V2 (Dong et al., "HAWQ-V2: Hessian aware trace-weighted
// quantization of neural networks", NeurIPS 2020).
//
//     minimize    sum_i (Tr(H_i) / n_i) ||Q(theta_i) - theta_i||^2
//     subject to  mean width of forward and backward work <= budget
//
// The budget is precision.bit_budget, or precision.bits where there is none. A layer has the same bits in both passes,
// so that one more costs three products. ||Q(theta) - theta||^2 is what the layer measured at its bits, brought to
// others by variance_factor; until then, and above 8 bits, where codes are floats, that of a uniform grid that reaches
// kReach times the RMS weight. All start at the widest level that is neither above the budget nor above precision.bits
// and wait for a trace of every layer with products; a plan is replaced where it breaks the budget or where another one
// has at most kWorthwhile of its error. Layers without products keep 8 bits; the optimizers take the widest of all, at
// least 8.
#include "core/precision/detail/policies.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <cmath>

namespace dither {
namespace {

/// Weights of a trained layer are heavy-tailed between a normal's 3 and a maximum of thousands of values.
constexpr double kReach = 4;
/// A quarter of a bit, on variances: 2^-0.5.
constexpr double kWorthwhile = 0.7071067811865476;
constexpr int kWidestCodes = 8;

/// What the rule remembers of a layer.
struct Known {
    double trace = kNotMeasured;
    double rounding = kNotMeasured;  ///< ||Q(theta) - theta||^2 / ||theta||^2 at kSensitivityBits
    double theta_norm = kNotMeasured;

    bool complete() const { return is_known(trace) && is_known(theta_norm); }
};

/// The relative variance of a grid at kSensitivityBits: (reach RMS / 7)^2 / 12.
double uniform_rounding() {
    constexpr double kStep = kReach / 7;
    return kStep * kStep / 12;
}

class Hawq final : public Policy {
public:
    Hawq(const PrecisionOptions& options, const Schema& schema)
        : levels_(options.levels),
          budget_(options.bit_budget > 0 ? options.bit_budget : options.bits),
          start_(start_level(levels_, std::min<double>(budget_, options.bits))),
          smoothing_(options.smoothing),
          schema_(schema),
          products_(with_products(schema)),
          known_(schema.layer_count()) {}

    PrecisionPlan initial() const override { return starting_plan(levels_, products_, start_); }

    Probe probe() const override { return Probe::curvature; }

    std::vector<PlanChange> update(const Observation& observation, PrecisionPlan& plan) override {
        check_observation(observation, plan, known_.size());
        bool complete = true;
        for (std::size_t i = 0; i < known_.size(); ++i) {
            learn(known_[i], observation.layers[i], plan.layers[i].forward);
            complete = complete && (!products_[i] || known_[i].complete());
        }
        PlanEditor editor(plan);
        if (complete)
            decide(plan, editor);
        editor.finish(levels_, products_);
        return std::move(editor).changes();
    }

    std::vector<double> state() const override { return numbers_of(std::span(known_)); }
    void restore(std::span<const double> state) override { restore_numbers(state, std::span(known_)); }

private:
    static int start_level(const Levels& levels, double most) {
        int start = levels.lowest();
        for (const int bits : levels.bits())
            if (bits <= most)
                start = bits;
        return start;
    }

    /// `bits`: those that the layer ran with, forward.
    void learn(Known& known, const LayerStatistics& measured, int bits) const {
        known.trace = smooth_jumps(known.trace, measured.curvature_trace, smoothing_);
        known.theta_norm = newest(known.theta_norm, measured.theta_norm);
        if (bits <= kWidestCodes && measured.forward_error >= 0) {
            const double error = static_cast<double>(measured.forward_error);
            known.rounding =
                smooth(known.rounding, static_cast<float>(error * error / variance_factor(bits)), smoothing_);
        }
    }

    std::vector<BitPlace> places() const {
        std::vector<BitPlace> places;
        for (std::size_t i = 0; i < known_.size(); ++i) {
            if (!products_[i])
                continue;
            const Known& k = known_[i];
            const LayerSpec& layer = schema_.layers()[i];
            const double rounding = is_known(k.rounding) ? k.rounding : uniform_rounding();
            places.push_back({.cost = 3 * 2 * layer.macs,
                              .error = k.trace / static_cast<double>(std::max<std::size_t>(layer.trained_count(), 1)) *
                                       rounding * k.theta_norm * k.theta_norm});
        }
        return places;
    }

    void decide(const PrecisionPlan& plan, PlanEditor& editor) const {
        const std::vector<BitPlace> choices = places();
        std::vector<int> current;
        double unit = 0;
        bool uneven = false;
        for (std::size_t i = 0; i < known_.size(); ++i)
            if (products_[i]) {
                current.push_back(plan.layers[i].forward);
                uneven = uneven || plan.layers[i].backward != plan.layers[i].forward;
                unit += choices[current.size() - 1].cost;
            }
        const std::vector<int> chosen = best_within_cost(choices, levels_, budget_ * unit);
        const bool broken = uneven || cost_of(choices, current) > budget_ * unit;
        if (broken || error_of(choices, chosen) <= kWorthwhile * error_of(choices, current))
            adopt(choices, chosen, editor);
    }

    void adopt(std::span<const BitPlace> choices, std::span<const int> chosen, PlanEditor& editor) const {
        const double whole = error_of(choices, chosen);
        for (std::size_t i = 0, place = 0; i < known_.size(); ++i) {
            if (!products_[i])
                continue;
            const std::string reason = fmt::format(
                "trace/n*|Q(theta)-theta|^2 = {:.3g} of {:.3g} at {} bits, budget {:.4g}",
                error_of(choices.subspan(place, 1), chosen.subspan(place, 1)), whole, chosen[place], budget_);
            editor.set(i, Phase::forward, chosen[place], reason);
            editor.set(i, Phase::backward, chosen[place], reason);
            ++place;
        }
    }

    Levels levels_;
    double budget_;
    int start_;
    double smoothing_;
    Schema schema_;
    std::vector<bool> products_;
    std::vector<Known> known_;
};

}  // namespace

std::unique_ptr<Policy> make_hawq(const PrecisionOptions& options, const Schema& schema) {
    return std::make_unique<Hawq>(options, schema);
}

}  // namespace dither
