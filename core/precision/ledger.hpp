// Counts the bit-operations of training as [S2] defines them, from the plan that ran:
//     bit_ops = sum over steps and layers of p * FLOPs      forward 1x, backward 2x the forward FLOPs, FLOPs = 2 * MACs
// fp32 costs 32 * FLOPs. The optimizer's bit-operations (one multiply-accumulate per parameter and step) are counted
// apart, and so is the work of measuring curvature, which runs at 32 bits. [S2] "End-to-End Quantization-Aware Training
// via Numerical Geometry", section 4.3. Beside them BOPs, which charge a product for the widths of both operands
// (Baskin et al., "UNIQ: uniform noise injection for non-uniform quantization of neural networks", 2021, without its
// accumulators):
//     BOPs = sum over steps and layers of b_w * b_a * MACs      forward 1x, backward 2x
// with the phase's bits for both operands.
#pragma once

#include "core/model/schema.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/policy.hpp"

#include <cstddef>
#include <cstdint>

namespace dither {

struct ProbeWork;

struct BitOps {
    double training = 0;  ///< forward and backward
    double optimizer = 0;
    double training_fp32 = 0;  ///< what the same work costs at 32 bits
    double optimizer_fp32 = 0;
    double probe = 0;  ///< measuring curvature, at 32 bits and beyond what training costs
    double bops = 0;   ///< of training
    double bops_fp32 = 0;

    BitOps& operator+=(const BitOps& other);
    bool operator==(const BitOps&) const = default;
};

/// The bit-operations of one layer.
struct LayerBitOps {
    double forward = 0;
    double backward = 0;
    double optimizer = 0;

    bool operator==(const LayerBitOps&) const = default;
};

/// Bit-operations of layer `layer`, as count_bit_ops counts them.
LayerBitOps layer_bit_ops(const Schema& schema, const PrecisionPlan& plan, std::size_t layer, std::uint64_t samples,
                          std::uint64_t steps);

/// Bit-operations of processing `samples` samples in `steps` optimizer steps under `plan`. Exact in doubles up to 2^53
/// per term, and computed from integers, so sums do not depend on an order.
BitOps count_bit_ops(const Schema& schema, const PrecisionPlan& plan, std::uint64_t samples, std::uint64_t steps);

/// What a node's measurements (probe_work) cost on a batch of so many samples, all of it at 32 bits; a gradient is a
/// forward and a backward pass.
double probe_bit_ops(const Schema& schema, const ProbeWork& work, std::uint64_t batch);
/// The most that it can be: every Hessian product by differences of the gradient.
double probe_bit_ops(const Schema& schema, Probe probe, std::uint64_t batch);

/// The mean width of forward and backward work: 32 * training / training_fp32.
double mean_bits(const Schema& schema, const PrecisionPlan& plan);

}  // namespace dither
