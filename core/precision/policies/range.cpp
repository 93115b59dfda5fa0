// The uplink's bits fall with the range of the updates, layer by layer: FedDQ (Qu, Song and Tsui, "FedDQ:
// Communication-efficient federated learning with descending quantization", 2021).
//
//     p_i = ceil(log2(range_i / resolution_i))
//
// range_i is twice the layer's largest |update|. The resolution stays what the first range gives at precision.bits (at
// most 16, the widest code), so that the grid keeps its step while the range, and with it the number of codes, shrinks.
// The local phases run at precision.bits, raised to a level. Layers without products travel in the widest codes.
#include "core/precision/detail/policies.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <cmath>

namespace dither {
namespace {

class Range final : public Policy {
public:
    Range(const PrecisionOptions& options, const Schema& schema)
        : levels_(options.levels),
          start_(options.bits),
          uplink_(std::min(options.bits, kWidestUplink)),
          products_(with_products(schema)),
          resolutions_(schema.layer_count(), kNotMeasured) {}

    PrecisionPlan initial() const override {
        PrecisionPlan plan = starting_plan(levels_, products_, start_);
        for (std::size_t i = 0; i < products_.size(); ++i)
            plan.layers[i].uplink = products_[i] ? uplink_ : kWidestUplink;
        return plan;
    }

    bool rules_uplink() const override { return true; }

    std::vector<PlanChange> update(const Observation& observation, PrecisionPlan& plan) override {
        check_observation(observation, plan, resolutions_.size());
        PlanEditor editor(plan);
        const int bits = levels_.raise(start_);
        for (std::size_t i = 0; i < resolutions_.size(); ++i) {
            if (!products_[i])
                continue;
            for (const Phase phase : {Phase::forward, Phase::backward})
                editor.set(i, phase, bits, fmt::format("precision.bits = {}", start_));
            decide(i, 2.0 * observation.layers[i].update_range, plan.layers[i].uplink, editor);
        }
        editor.finish(levels_, products_);
        return std::move(editor).changes();
    }

    std::vector<double> state() const override { return resolutions_; }
    void restore(std::span<const double> state) override { restore_numbers(state, std::span<double>(resolutions_)); }

private:
    void decide(std::size_t layer, double range, int current, PlanEditor& editor) {
        if (!(range > 0 && std::isfinite(range)))
            return;
        double& resolution = resolutions_[layer];
        if (!is_known(resolution))
            resolution = range / std::ldexp(1.0, uplink_);
        const double raw = safe_log2(range / resolution);
        editor.set(layer, Phase::uplink, uplink_bits(raw, current),
                   fmt::format("range/resolution = {:.3g}/{:.3g} -> {:.2f} bits", range, resolution, raw));
    }

    Levels levels_;
    int start_;
    int uplink_;  ///< the first width of the uplink's codes
    std::vector<bool> products_;
    std::vector<double> resolutions_;
};

}  // namespace

std::unique_ptr<Policy> make_range(const PrecisionOptions& options, const Schema& schema) {
    return std::make_unique<Range>(options, schema);
}

}  // namespace dither
