#include "aggregator/fixed_bits.hpp"

#include <algorithm>

namespace dither {

FixedBits::FixedBits(const Job& job, const Schema& schema) {
    for (const LayerSpec& spec : schema.layers()) {
        const QuantizeOptions quantize = options_for(job.quantize, spec.name);
        const bool products = spec.macs > 0;
        layers_.push_back({.weights = products ? quantize.weights.bits : 0,
                           .activations = products ? quantize.activations.bits : 0,
                           .gradients = products ? quantize.gradients.bits : 0,
                           .optimizer = quantize.optimizer_bits});
    }
}

int FixedBits::bits(std::size_t layer, Phase phase, int planned) const {
    const Layer& fixed = layers_[layer];
    const auto or_planned = [planned](int bits) { return bits == 0 ? planned : bits; };
    if (planned == kFullBits)
        return planned;
    switch (phase) {
        case Phase::forward:
            return std::max(or_planned(fixed.weights), or_planned(fixed.activations));
        case Phase::backward:
            return or_planned(fixed.gradients);
        case Phase::optimizer:
            return or_planned(fixed.optimizer);
        default:
            return planned;
    }
}

void FixedBits::apply(PrecisionPlan& plan, std::vector<PlanChange>& changes) const {
    std::erase_if(changes,
                  [&](const PlanChange& c) { return bits(c.layer, c.phase, c.from) == bits(c.layer, c.phase, c.to); });
    for (PlanChange& c : changes)
        c.to = bits(c.layer, c.phase, c.to);
    for (std::size_t layer = 0; layer < plan.layers.size(); ++layer)
        for (const Phase phase : kPhases)
            plan.layers[layer][phase] = bits(layer, phase, plan.layers[layer][phase]);
}

}  // namespace dither
