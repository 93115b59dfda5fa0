// Each layer by its curvature alone:
//
//     p_i = log2(h_i ||theta_i|| / s_i,0) + margin, raised to a level
//
// Rounding theta_i to p bits moves the gradient by about h_i ||theta_i|| 2^-p, where h_i is the RMS curvature of the
// layer's Hessian block; it must stay 2^margin below the smoothed gradient. Of that the rule takes the first value,
// s_i,0, and keeps it: bits follow the curvature over layers and rounds, and not the gradient's fall. That is numgeom's
// other half, as the policy `gradient` is the first. The rule knows no measure of the backward pass, whose bits are
// those of the forward pass. h is a moving average; until a layer has been measured it stays at precision.bits.
#include "core/precision/detail/policies.hpp"

#include <fmt/format.h>
#include <cmath>

namespace dither {
namespace {

/// What the rule remembers of a layer.
struct Known {
    double curvature = kNotMeasured;
    double theta_norm = kNotMeasured;
    double first_signal = kNotMeasured;

    bool complete() const { return is_known(curvature) && is_known(theta_norm) && is_known(first_signal); }
};

class Curvature final : public Policy {
public:
    Curvature(const PrecisionOptions& options, const Schema& schema)
        : levels_(options.levels),
          start_(options.bits),
          margin_(options.margin_bits),
          smoothing_(options.smoothing),
          products_(with_products(schema)),
          known_(schema.layer_count()) {}

    PrecisionPlan initial() const override { return starting_plan(levels_, products_, start_); }

    Probe probe() const override { return Probe::curvature; }

    std::vector<PlanChange> update(const Observation& observation, PrecisionPlan& plan) override {
        check_observation(observation, plan, known_.size());
        PlanEditor editor(plan);
        for (std::size_t i = 0; i < known_.size(); ++i) {
            learn(known_[i], observation.layers[i]);
            if (products_[i] && known_[i].complete())
                decide(i, plan.layers[i].forward, editor);
        }
        editor.finish(levels_, products_);
        return std::move(editor).changes();
    }

    std::vector<double> state() const override { return numbers_of(std::span(known_)); }
    void restore(std::span<const double> state) override { restore_numbers(state, std::span(known_)); }

private:
    void learn(Known& known, const LayerStatistics& measured) const {
        known.curvature = smooth_jumps(known.curvature, measured.curvature, smoothing_);
        known.theta_norm = newest(known.theta_norm, measured.theta_norm);
        if (!is_known(known.first_signal) && measured.signal_norm > 0 && std::isfinite(measured.signal_norm))
            known.first_signal = measured.signal_norm;
    }

    void decide(std::size_t layer, int current, PlanEditor& editor) const {
        const Known& k = known_[layer];
        const double sensitivity = k.curvature * k.theta_norm;
        // A layer without curvature (its units are dead, say) feels no rounding at all.
        const double ratio = sensitivity == 0 ? 0 : sensitivity / k.first_signal;
        const double raw = sensitivity == 0 ? 0 : safe_log2(ratio) + margin_;
        const int bits = raise_with_hysteresis(levels_, raw, current);
        const std::string reason =
            fmt::format("h*|theta|/s_0 = {:.3g}*{:.3g}/{:.3g} = {:.3g} -> {:.2f} bits (+{} margin)", k.curvature,
                        k.theta_norm, k.first_signal, ratio, raw - margin_, margin_);
        editor.set(layer, Phase::forward, bits, reason);
        editor.set(layer, Phase::backward, bits, reason);
    }

    Levels levels_;
    int start_;
    int margin_;
    double smoothing_;
    std::vector<bool> products_;
    std::vector<Known> known_;
};

}  // namespace

std::unique_ptr<Policy> make_curvature(const PrecisionOptions& options, const Schema& schema) {
    return std::make_unique<Curvature>(options, schema);
}

}  // namespace dither
