// Bits rise as the loss falls, for all layers alike: AdaQuantFL (Jhunjhunwala, Gadhikar, Joshi and Eldar, "Adaptive
// quantization of model updates for communication-efficient federated learning", ICASSP 2021).
//
//     s_k = s_0 sqrt(F_0 / F_k)          p = ceil(log2(s_k + 1)) + 1
//
// s is the number of quantization steps of a magnitude, and one more bit is the sign. s_0 belongs to the lowest level:
// 2^(p - 1) - 1. F is the training loss, smoothed, where the publication takes it as it is. It speaks of the uplink;
// here the local phases follow the same rule, raised to a level, the optimizer's at least 8 bits.
#include "core/precision/detail/policies.hpp"

#include <fmt/format.h>
#include <cmath>

namespace dither {
namespace {

class Loss final : public Policy {
public:
    Loss(const PrecisionOptions& options, const Schema& schema)
        : levels_(options.levels), smoothing_(options.smoothing), products_(with_products(schema)) {}

    PrecisionPlan initial() const override {
        const int lowest = levels_.lowest();
        PrecisionPlan plan = local_plan(products_.size(), lowest, lowest, optimizer_bits(levels_, lowest));
        for (std::size_t i = 0; i < products_.size(); ++i)
            plan.layers[i].uplink = products_[i] ? uplink_bits(lowest, lowest) : kWidestUplink;
        return plan;
    }

    bool rules_uplink() const override { return true; }

    std::vector<PlanChange> update(const Observation& observation, PrecisionPlan& plan) override {
        check_observation(observation, plan, products_.size());
        loss_ = smooth(loss_, static_cast<float>(observation.train_loss), smoothing_);
        if (!(std::isfinite(first_) && first_ > 0))
            first_ = loss_;
        PlanEditor editor(plan);
        if (is_known(loss_) && std::isfinite(loss_))
            decide(editor, plan);
        return std::move(editor).changes();
    }

    std::vector<double> state() const override { return {first_, loss_}; }

    void restore(std::span<const double> state) override {
        std::array<double, 2> numbers{};
        restore_numbers(state, std::span<double>(numbers));
        first_ = numbers[0];
        loss_ = numbers[1];
    }

private:
    void decide(PlanEditor& editor, const PrecisionPlan& plan) const {
        const double first_steps = std::ldexp(1.0, levels_.lowest() - 1) - 1;
        const double steps = first_steps * std::sqrt(first_ / loss_);
        const double raw = safe_log2(steps + 1) + 1;
        const std::string reason = fmt::format("s_0 sqrt(F_0/F) = {:.3g} sqrt({:.3g}/{:.3g}) = {:.3g} -> {:.2f} bits",
                                               first_steps, first_, loss_, steps, raw);
        for (std::size_t i = 0; i < products_.size(); ++i) {
            const int bits = raise_with_hysteresis(levels_, raw, plan.layers[i].forward);
            editor.set(i, Phase::forward, bits, reason);
            editor.set(i, Phase::backward, bits, reason);
            editor.set(i, Phase::optimizer, optimizer_bits(levels_, bits), reason);
            if (products_[i])
                editor.set(i, Phase::uplink, uplink_bits(raw, plan.layers[i].uplink), reason);
        }
    }

    Levels levels_;
    double smoothing_;
    std::vector<bool> products_;
    double first_ = kNotMeasured;  ///< F_0
    double loss_ = kNotMeasured;   ///< F_k
};

}  // namespace

std::unique_ptr<Policy> make_loss(const PrecisionOptions& options, const Schema& schema) {
    return std::make_unique<Loss>(options, schema);
}

}  // namespace dither
