// What the tests of policies share.
#pragma once

#include "core/config.hpp"
#include "core/precision/error_model.hpp"
#include "core/precision/policy.hpp"
#include "tests/unit/core/schema_of.hpp"

#include <memory>
#include <vector>

namespace dither {

/// Layers with one parameter and one product each.
inline Schema layers(std::size_t count) {
    return schema_of(std::vector<LayerSize>(count, {.count = 1, .macs = 1}));
}

/// A level for every width: decisions show their raw bits.
inline const std::vector<int> kFine{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 32};

/// The relative error of a plan under statistics that were seen once.
inline double predicted(const std::vector<LayerStatistics>& seen, const PrecisionPlan& plan) {
    std::vector<LayerSensitivity> known;
    for (const LayerStatistics& s : seen)
        known.push_back({s.forward_sensitivity, s.backward_sensitivity, s.signal_norm, s.step_gain});
    return ErrorModel(layers(seen.size()), known).relative_error(plan);
}

/// A policy, its plan and the rounds that it has seen.
class PolicyRun {
public:
    PolicyRun(const PrecisionOptions& options, std::size_t count) : PolicyRun(options, layers(count)) {}
    PolicyRun(const PrecisionOptions& options, const Schema& schema)
        : policy_(make_policy(options, schema)), plan_(policy_->initial()) {}

    std::vector<PlanChange> see(const std::vector<LayerStatistics>& statistics, double train_loss = 1) {
        return policy_->update({.round = ++round_, .train_loss = train_loss, .layers = statistics}, plan_);
    }
    void resume(const PolicyRun& other) {
        policy_->restore(other.policy_->state());
        plan_ = other.plan_;
        round_ = other.round_;
    }
    const LayerBits& bits(std::size_t layer = 0) const { return plan_.layers[layer]; }
    PrecisionPlan& plan() { return plan_; }
    Policy& policy() { return *policy_; }

private:
    std::unique_ptr<Policy> policy_;
    PrecisionPlan plan_;
    std::uint32_t round_ = 0;
};

}  // namespace dither
