// Bits rise as the gradient falls, for all layers alike, from nothing but its norm:
//     p = p_lowest + log2(||g_0|| / ||g||), raised to a level
// ||g|| is the smoothed norm over all layers, g_0 its first value; a gradient that halves leaves rounding noise twice
// as large beside it, which one more bit makes good. The optimizer's state takes p too, but at least 8 bits. The
// baseline of "End-to-End Quantization-Aware Training via Numerical Geometry", section 4.2, which leaves it
// unspecified.
#include "core/precision/detail/policies.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <array>
#include <cmath>

namespace dither {
namespace {

class Gradient final : public Policy {
public:
    Gradient(const PrecisionOptions& options, std::size_t layers)
        : levels_(options.levels), smoothing_(options.smoothing), norms_(layers, kNotMeasured) {}

    PrecisionPlan initial() const override {
        const int lowest = levels_.lowest();
        return local_plan(norms_.size(), lowest, lowest, optimizer_bits(levels_, lowest));
    }

    std::vector<PlanChange> update(const Observation& observation, PrecisionPlan& plan) override {
        check_observation(observation, plan, norms_.size());
        for (std::size_t i = 0; i < norms_.size(); ++i)
            norms_[i] = smooth(norms_[i], observation.layers[i].grad_norm, smoothing_);
        PlanEditor editor(plan);
        if (std::all_of(norms_.begin(), norms_.end(), is_known))
            decide(editor, plan);
        return std::move(editor).changes();
    }

    std::vector<double> state() const override {
        std::vector<double> numbers(norms_);
        numbers.push_back(first_);
        return numbers;
    }

    void restore(std::span<const double> state) override {
        std::vector<double> numbers(norms_.size() + 1);
        restore_numbers(state, numbers);
        first_ = numbers.back();
        std::copy_n(numbers.begin(), norms_.size(), norms_.begin());
    }

private:
    void decide(PlanEditor& editor, const PrecisionPlan& plan) {
        const double norm = joint_norm(norms_);
        if (!(std::isfinite(first_) && first_ > 0))
            first_ = norm;
        const double raw = levels_.lowest() + safe_log2(first_ / norm);
        for (std::size_t i = 0; i < norms_.size(); ++i) {
            const int bits = raise_with_hysteresis(levels_, raw, plan.layers[i].forward);
            const std::string reason = fmt::format("|g_0|/|g| = {:.3g}/{:.3g} -> {} + {:.2f} bits", first_, norm,
                                                   levels_.lowest(), raw - levels_.lowest());
            editor.set(i, Phase::forward, bits, reason);
            editor.set(i, Phase::backward, bits, reason);
            editor.set(i, Phase::optimizer, optimizer_bits(levels_, bits), reason);
        }
    }

    Levels levels_;
    double smoothing_;
    std::vector<double> norms_;  ///< smoothed ||g_i||
    double first_ = kNotMeasured;
};

}  // namespace

std::unique_ptr<Policy> make_gradient(const PrecisionOptions& options, const Schema& schema) {
    return std::make_unique<Gradient>(options, schema.layer_count());
}

}  // namespace dither
