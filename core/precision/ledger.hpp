// Counts the bit-operations of training as [S2] defines them, from the plan that ran:
//     bit_ops = sum over steps and layers of p * FLOPs      forward 1x, backward 2x the forward FLOPs, FLOPs = 2 * MACs
// fp32 costs 32 * FLOPs. The optimizer's bit-operations (one multiply-accumulate per parameter and step) are counted
// apart, and so is the work of measuring curvature, which runs at 32 bits. [S2] "End-to-End Quantization-Aware Training
// via Numerical Geometry", section 4.3.
#pragma once

#include "core/model/schema.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/policy.hpp"

#include <cstdint>

namespace dither {

struct BitOps {
    double training = 0;  ///< forward and backward
    double optimizer = 0;
    double training_fp32 = 0;  ///< what the same work costs at 32 bits
    double optimizer_fp32 = 0;
    double probe = 0;  ///< measuring curvature, at 32 bits and beyond what training costs

    BitOps& operator+=(const BitOps& other);
    bool operator==(const BitOps&) const = default;
};

/// Bit-operations of processing `samples` samples in `steps` optimizer steps under `plan`. Exact in doubles up to 2^53
/// per term, and computed from integers, so sums do not depend on an order.
BitOps count_bit_ops(const Schema& schema, const PrecisionPlan& plan, std::uint64_t samples, std::uint64_t steps);

/// What one CurvatureProbe::measure costs on a batch of so many samples: at 32 bits, one forward pass for the whole
/// measurement, then for each layer 2 gradients (curvature) or 2 * kPowerIterations (curvature_norm) of the whole
/// model, a gradient being a forward and a backward pass.
double probe_bit_ops(const Schema& schema, Probe probe, std::uint64_t batch);

/// The mean width of forward and backward work: 32 * training / training_fp32.
double mean_bits(const Schema& schema, const PrecisionPlan& plan);

}  // namespace dither
