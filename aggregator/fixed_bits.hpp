// The bits that a job fixes for a layer's local phases, whatever the policy says ([quantize], [[quantize.layers]]).
#pragma once

#include "core/config.hpp"
#include "core/model/schema.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/policy.hpp"

#include <cstddef>
#include <vector>

namespace dither {

/// Immutable.
class FixedBits {
public:
    FixedBits(const Job& job, const Schema& schema);

    /// What becomes of `planned` bits: the same at fp32, and where nothing is fixed. The forward phase has the width of
    /// its wider operand. Uplink and downlink are not this one's business.
    int bits(std::size_t layer, Phase phase, int planned) const;
    /// Puts what is fixed into the plan and into `changes`, and drops those that it undoes.
    void apply(PrecisionPlan& plan, std::vector<PlanChange>& changes) const;

private:
    struct Layer {
        int weights = 0;  ///< 0: the plan's
        int activations = 0;
        int gradients = 0;
        int optimizer = 0;
    };
    std::vector<Layer> layers_;
};

}  // namespace dither
