// Counts the bit-operations of training as [S2] defines them, from the plan that ran:
//     bit_ops = sum over steps and layers of p * FLOPs      forward 1x, backward 2x the forward FLOPs, FLOPs = 2 * MACs
// fp32 costs 32 * FLOPs. The optimizer's bit-operations (one multiply-accumulate per parameter and step) are counted
// apart. [S2] "End-to-End Quantization-Aware Training via Numerical Geometry", section 4.3.
#pragma once

#include "core/model/schema.hpp"
#include "core/precision/plan.hpp"

#include <cstdint>

namespace dither {

struct BitOps {
    double training = 0;  ///< forward and backward
    double optimizer = 0;
    double training_fp32 = 0;  ///< what the same work costs at 32 bits
    double optimizer_fp32 = 0;

    BitOps& operator+=(const BitOps& other);
    bool operator==(const BitOps&) const = default;
};

/// Bit-operations of processing `samples` samples in `steps` optimizer steps under `plan`. Exact in doubles up to 2^53
/// per term, and computed from integers, so sums do not depend on an order.
BitOps count_bit_ops(const Schema& schema, const PrecisionPlan& plan, std::uint64_t samples, std::uint64_t steps);

/// The mean width of forward and backward work: 32 * training / training_fp32.
double mean_bits(const Schema& schema, const PrecisionPlan& plan);

}  // namespace dither
