// Numerical geometry: bits follow the gradient, layer by layer, forward and backward apart, so that the predicted error
// of a step stays below a share of the step itself.
//
//     minimize    sum_i cost_i (p_F,i + 2 p_B,i)
//     subject to  error^2 <= target_error^2 s^2                    (ErrorModel, at the learning rate of the next round)
//                 eps_i sqrt(v(p_B,i)) <= backward_tolerance,  p_F,i >= 4,  p_B,i >= 4
//
// with the measured sensitivities E and the smoothed gradient s of ErrorModel. The source ("End-to-End
// Quantization-Aware Training via Numerical Geometry", section 2.3) charges every layer for the worst direction of an
// error that is random, and has each pay for itself; that rule is numgeom_literal. Here layers that feel little pay for
// those that feel much, and the gradient's fall, as the measure of what an error may be, stays. eps_i, the relative
// error of the output gradient rounded to 4 bits, bounds the backward pass apart: what averages out within the smoothed
// step must not drown a single one either. 4 bits are what was measured: below, where all operands of the products are
// coarse, a step errs by more than follows from there (CNN-2 loses 1.3 points with 8/3 constant bits where 8/4 lose
// 0.1; resnet8 as much with 3 bits forward).
//
// A plan that breaks a constraint is replaced at once, if possible by one that only raises bits. One that meets them
// makes way for a cheaper one only where that meets them with a quarter of a bit to spare. Nothing moves for less than
// 1% of the cost. Until every layer with products has been measured all stay where they start: precision.bits forward,
// 4 backward.
// Layers without products keep 8 bits and count for no other layer; the optimizers take the widest of all, at least 8.
// Statistics are moving averages, of logarithms, over the rounds that measured, in which no measurement counts as more
// than a factor of 4 away from what was known. What a sensitivity is relative to is the gradient of its own round: both
// fall as a model comes to fit its data, and the gradient of today beside a sensitivity of three epochs ago asked for
// 32 bits at the end of training, for nothing (CNN-2 on MNIST in one place: 22 % of fp32's bit-operations, not 15 %).
#include "core/precision/detail/policies.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <array>
#include <cmath>

namespace dither {
namespace {

/// A quarter of a bit, as a factor on errors: 2^0.25.
constexpr double kSpare = 1.189207115002721;
/// A share of the plan's cost that is worth moving bits for.
constexpr double kWorthwhile = 0.01;

/// What the rule remembers of a layer.
struct Known {
    LayerSensitivity sensitivity;
    double backward_error = kNotMeasured;
};

class NumGeom final : public Policy {
public:
    NumGeom(const PrecisionOptions& options, const Schema& schema)
        : levels_(options.levels),
          start_(options.bits),
          target_(options.target_error),
          tolerance_(options.backward_tolerance),
          smoothing_(options.smoothing),
          schema_(schema),
          products_(with_products(schema)),
          known_(schema.layer_count()) {}

    PrecisionPlan initial() const override {
        PrecisionPlan plan = starting_plan(levels_, products_, start_);
        for (std::size_t i = 0; i < products_.size(); ++i)
            if (products_[i])
                plan.layers[i].backward = std::min(plan.layers[i].backward, levels_.raise(kSensitivityBits));
        return plan;
    }

    Probe probe() const override { return Probe::sensitivity; }

    std::vector<PlanChange> update(const Observation& observation, PrecisionPlan& plan) override {
        check_observation(observation, plan, known_.size());
        for (std::size_t i = 0; i < known_.size(); ++i)
            known_[i].backward_error =
                smooth_jumps(known_[i].backward_error, observation.layers[i].backward_error, smoothing_);
        PlanEditor editor(plan);
        const ErrorModel model(schema_, learn_sensitivities(std::span(known_), observation.layers, smoothing_),
                               observation.rate);
        if (model.complete())
            decide(model, plan, editor);
        editor.finish(levels_, products_);
        return std::move(editor).changes();
    }

    std::vector<double> state() const override { return numbers_of(std::span(known_)); }
    void restore(std::span<const double> state) override { restore_numbers(state, std::span(known_)); }

private:
    /// The model's places, none below what was measured, nor below what the output gradient tolerates with `spare` as a
    /// factor.
    std::vector<BitPlace> places(const ErrorModel& model, double spare) const {
        std::vector<BitPlace> places = model.places();
        for (std::size_t i = 0; i < places.size(); ++i) {
            const auto [layer, phase] = model.where()[i];
            places[i].least = phase == Phase::backward ? least_backward(known_[layer].backward_error, spare)
                                                       : levels_.raise(kSensitivityBits);
        }
        return places;
    }

    int least_backward(double eps, double spare) const {
        const int measured = levels_.raise(kSensitivityBits);
        if (!is_known(eps))
            return measured;
        for (const int bits : levels_.bits())
            if (bits >= measured && (bits == kFullBits || spare * eps * std::sqrt(variance_factor(bits)) <= tolerance_))
                return bits;
        return kFullBits;
    }

    void decide(const ErrorModel& model, const PrecisionPlan& plan, PlanEditor& editor) const {
        const std::vector<int> current = bits_of(plan, model.where());
        const std::vector<BitPlace> bounded = places(model, 1);
        bool broken = model.relative_error(plan) > target_;
        for (std::size_t i = 0; i < bounded.size(); ++i)
            broken = broken || current[i] < bounded[i].least;
        if (broken) {
            adopt(model, bounded, current, repaired(bounded, current), editor);
            return;
        }
        const double goal = target_ / kSpare;
        const std::vector<int> cheaper = cheapest_within_error(places(model, kSpare), levels_, goal * goal);
        if (cost_of(bounded, cheaper) < (1 - kWorthwhile) * cost_of(bounded, current))
            adopt(model, bounded, current, cheaper, editor);
    }

    /// The cheapest bits that meet the constraints, or those that only rise from `current`, if these are about as
    /// cheap.
    std::vector<int> repaired(std::span<const BitPlace> places, std::span<const int> current) const {
        const std::vector<int> cheapest = cheapest_within_error(places, levels_, target_ * target_);
        std::vector<BitPlace> rising(places.begin(), places.end());
        for (std::size_t i = 0; i < rising.size(); ++i)
            rising[i].least = std::max(rising[i].least, current[i]);
        const std::vector<int> risen = cheapest_within_error(rising, levels_, target_ * target_);
        return (1 - kWorthwhile) * cost_of(places, risen) <= cost_of(places, cheapest) ? risen : cheapest;
    }

    void adopt(const ErrorModel& model, std::span<const BitPlace> places, std::span<const int> from,
               std::span<const int> to, PlanEditor& editor) const {
        const double before = std::sqrt(error_of(places, from));
        const double after = std::sqrt(error_of(places, to));
        for (std::size_t i = 0; i < places.size(); ++i) {
            const auto share = [&](int bits) { return std::sqrt(error_of(places.subspan(i, 1), std::array{bits})); };
            const auto [layer, phase] = model.where()[i];
            editor.set(layer, phase, to[i],
                       fmt::format("step error {:.3g} {} target {:.3g}, becomes {:.3g}; {} at {} bits brings {:.3g}, "
                                   "at {} bits {:.3g}{}",
                                   before, before > target_ ? ">" : "<=", target_, after, name_of(phase), from[i],
                                   share(from[i]), to[i], share(to[i]), tolerance_text(layer, phase)));
        }
    }

    std::string tolerance_text(std::size_t layer, Phase phase) const {
        const double eps = known_[layer].backward_error;
        if (phase != Phase::backward || !is_known(eps))
            return {};
        return fmt::format("; eps = {:.3g} at {} bits, tolerance {:.3g}", eps, kSensitivityBits, tolerance_);
    }

    Levels levels_;
    int start_;
    double target_;
    double tolerance_;
    double smoothing_;
    Schema schema_;
    std::vector<bool> products_;
    std::vector<Known> known_;
};

}  // namespace

std::unique_ptr<Policy> make_numgeom(const PrecisionOptions& options, const Schema& schema) {
    return std::make_unique<NumGeom>(options, schema);
}

}  // namespace dither
