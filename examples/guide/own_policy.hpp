// Few bits for layers that have calmed down: 8 while a layer's gradient norm is at least half the largest that it has
// had, 4 below.
#pragma once

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/precision/policy.hpp"

#include <algorithm>
#include <memory>
#include <vector>

namespace guide {

class Calm final : public dither::Policy {
public:
    Calm(const dither::PrecisionOptions& options, const dither::Schema& schema)
        : levels_(options.levels), largest_(schema.layer_count()) {}

    dither::PrecisionPlan initial() const override { return local_plan(levels_.raise(8)); }

    std::vector<dither::PlanChange> update(const dither::Observation& seen, dither::PrecisionPlan& plan) override {
        std::vector<dither::PlanChange> changes;
        for (std::size_t layer = 0; layer < largest_.size(); ++layer) {
            const double norm = seen.layers[layer].grad_norm;  // negative: not measured
            largest_[layer] = std::max(largest_[layer], norm);
            const bool calm = norm >= 0 && norm < largest_[layer] / 2;
            for (const dither::Phase phase :
                 {dither::Phase::forward, dither::Phase::backward, dither::Phase::optimizer}) {
                const int bits = levels_.raise(calm && phase != dither::Phase::optimizer ? 4 : 8);
                int& planned = plan.layers[layer][phase];
                if (planned != bits)
                    changes.push_back({layer, phase, planned, bits,
                                       fmt::format("|g| = {:.3g} of at most {:.3g}", norm, largest_[layer])});
                planned = bits;
            }
        }
        return changes;
    }

    // What a resumed run needs to decide as this one would.
    std::vector<double> state() const override { return largest_; }
    void restore(std::span<const double> state) override {
        if (state.size() != largest_.size())
            throw dither::FormatError(fmt::format("{} norms, expected {}", state.size(), largest_.size()));
        std::ranges::copy(state, largest_.begin());
    }

private:
    dither::PrecisionPlan local_plan(int bits) const {
        dither::PrecisionPlan plan = dither::PrecisionPlan::uniform(largest_.size(), dither::kFullBits);
        for (dither::LayerBits& layer : plan.layers)
            layer.forward = layer.backward = layer.optimizer = bits;
        return plan;
    }

    dither::Levels levels_;
    std::vector<double> largest_;
};

// In the place of the policy "gradient".
inline std::unique_ptr<dither::Policy> make_policy(const dither::PrecisionOptions& options,
                                                   const dither::Schema& schema) {
    if (options.policy == "gradient")
        return std::make_unique<Calm>(options, schema);
    return dither::make_policy(options, schema);
}

}  // namespace guide
