// The mended rule of numerical geometry: forward and backward pass apart, each from a measure of its own error.
//
//     forward    p_i = ceil(log2(h_i ||theta_i|| / s_i)) + margin, raised to a level; lowered only if 0.25 bits more
//                would fit too
//     backward   4 bits if eps_i <= tau, else ceil(1 + log2(1 + 7 (eps_i / tau)^2)), raised to a level
//     optimizer  the maximum over layers and phases, at least 8 bits
//
// Rounding theta_i to p bits moves the gradient by about h_i ||theta_i|| 2^-p, where h_i is the RMS curvature of the
// layer's Hessian block: rounding errors are random directions, not the worst one, which is what the published rule
// (numgeom_literal) charges for. It must stay 2^margin below s_i, the norm of the smoothed gradient: unlike the full
// gradient that does not vanish at a minimum of a noisy loss. eps_i is the relative error of the output gradient,
// rounded stochastically to 4 bits; it averages out over the batch, so that tau may be large. h, s and eps are moving
// averages over the rounds. Until a layer has been measured it stays at 8 bits; one without products, such as a norm,
// for good: the bits tell it how finely to keep its input, and count for no other layer.
#include "core/precision/detail/policies.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <cmath>

namespace dither {
namespace {

/// The width that eps is measured at, and the least of the backward pass.
constexpr int kBackwardBits = 4;
constexpr double kBackwardCodes = (1 << (kBackwardBits - 1)) - 1;
constexpr int kInitialBits = 8;

/// What the rule remembers of a layer.
struct Known {
    double curvature = kNotMeasured;
    double theta_norm = kNotMeasured;
    double signal_norm = kNotMeasured;
    double backward_error = kNotMeasured;
};

class NumGeom final : public Policy {
public:
    NumGeom(const PrecisionOptions& options, const Schema& schema)
        : levels_(options.levels),
          margin_(options.margin_bits),
          tolerance_(options.backward_tolerance),
          smoothing_(options.smoothing),
          products_(with_products(schema)),
          known_(schema.layer_count()) {}

    PrecisionPlan initial() const override {
        const int bits = levels_.raise(kInitialBits);
        return local_plan(known_.size(), bits, bits, bits);
    }

    Probe probe() const override { return Probe::curvature; }

    std::vector<PlanChange> update(const Observation& observation, PrecisionPlan& plan) override {
        check_observation(observation, plan, known_.size());
        PlanEditor editor(plan);
        int widest = levels_.raise(kLeastOptimizerBits);
        for (std::size_t i = 0; i < known_.size(); ++i) {
            learn(known_[i], observation.layers[i]);
            if (!products_[i]) {
                keep_initial(i, editor);
                continue;
            }
            decide_forward(i, plan.layers[i].forward, editor);
            decide_backward(i, editor);
            widest = std::max({widest, plan.layers[i].forward, plan.layers[i].backward});
        }
        editor.set_all(Phase::optimizer, widest, fmt::format("the widest of all layers and phases: {} bits", widest));
        return std::move(editor).changes();
    }

    std::vector<double> state() const override { return numbers_of(std::span(known_)); }
    void restore(std::span<const double> state) override { restore_numbers(state, std::span(known_)); }

private:
    void learn(Known& known, const LayerStatistics& measured) const {
        known.curvature = smooth(known.curvature, measured.curvature, smoothing_);
        known.theta_norm = newest(known.theta_norm, measured.theta_norm);
        known.signal_norm = smooth(known.signal_norm, measured.signal_norm, smoothing_);
        known.backward_error = smooth(known.backward_error, measured.backward_error, smoothing_);
    }

    /// After an alarm, which raises all layers.
    void keep_initial(std::size_t layer, PlanEditor& editor) const {
        for (const Phase phase : {Phase::forward, Phase::backward})
            editor.set(layer, phase, levels_.raise(kInitialBits), "no products to round");
    }

    void decide_forward(std::size_t layer, int current, PlanEditor& editor) const {
        const Known& k = known_[layer];
        if (!is_known(k.curvature) || !is_known(k.theta_norm) || !is_known(k.signal_norm))
            return;
        const double sensitivity = k.curvature * k.theta_norm;
        // A layer without curvature (its units are dead, say) feels no rounding at all, whatever its gradient.
        const double ratio = sensitivity == 0 ? 0 : sensitivity / k.signal_norm;
        const double raw = sensitivity == 0 ? 0 : safe_log2(ratio) + margin_;
        editor.set(layer, Phase::forward, raise_with_hysteresis(levels_, raw, current),
                   fmt::format("h*|theta|/s = {:.3g}*{:.3g}/{:.3g} = {:.3g} -> {:.2f} bits (+{} margin)", k.curvature,
                               k.theta_norm, k.signal_norm, ratio, raw - margin_, margin_));
    }

    void decide_backward(std::size_t layer, PlanEditor& editor) const {
        const double eps = known_[layer].backward_error;
        if (!is_known(eps))
            return;
        const bool tolerable = eps <= tolerance_;
        const double excess = eps / tolerance_;
        const double raw = tolerable ? kBackwardBits : 1 + safe_log2(1 + kBackwardCodes * excess * excess);
        editor.set(
            layer, Phase::backward, levels_.raise(raw),
            fmt::format("eps = {:.3g} {} tau = {:.3g} -> {:.2f} bits", eps, tolerable ? "<=" : ">", tolerance_, raw));
    }

    Levels levels_;
    int margin_;
    double tolerance_;
    double smoothing_;
    std::vector<bool> products_;
    std::vector<Known> known_;
};

}  // namespace

std::unique_ptr<Policy> make_numgeom(const PrecisionOptions& options, const Schema& schema) {
    return std::make_unique<NumGeom>(options, schema);
}

}  // namespace dither
