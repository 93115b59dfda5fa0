// bit_ops = sum over steps and layers of p_i(t) * FLOPs_i ("End-to-End Quantization-Aware Training via Numerical
// Geometry", section 4.3), FLOPs = 2 * MACs forward and twice that backward: the gradients of the weights and of the
// input are one product each.
#include "core/precision/ledger.hpp"

#include "core/error.hpp"
#include "core/precision/curvature.hpp"

namespace dither {

BitOps& BitOps::operator+=(const BitOps& other) {
    training += other.training;
    optimizer += other.optimizer;
    training_fp32 += other.training_fp32;
    optimizer_fp32 += other.optimizer_fp32;
    probe += other.probe;
    return *this;
}

BitOps count_bit_ops(const Schema& schema, const PrecisionPlan& plan, std::uint64_t samples, std::uint64_t steps) {
    require(plan.layers.size() == schema.layer_count(), "a plan for {} layers, the model has {}", plan.layers.size(),
            schema.layer_count());
    BitOps total;
    for (std::size_t i = 0; i < schema.layer_count(); ++i) {
        const LayerSpec& layer = schema.layers()[i];
        const LayerBits& bits = plan.layers[i];
        const double forward = 2 * layer.macs * static_cast<double>(samples);
        const double backward = 2 * forward;
        const double update = 2 * static_cast<double>(layer.trained_count()) * static_cast<double>(steps);
        total.training += bits.forward * forward + bits.backward * backward;
        total.optimizer += bits.optimizer * update;
        total.training_fp32 += kFullBits * (forward + backward);
        total.optimizer_fp32 += kFullBits * update;
    }
    return total;
}

double probe_bit_ops(const Schema& schema, Probe probe, std::uint64_t batch) {
    if (probe == Probe::none)
        return 0;
    double forward = 0;
    for (const LayerSpec& layer : schema.layers())
        forward += 2 * layer.macs * static_cast<double>(batch);
    const int products = probe == Probe::curvature_norm ? CurvatureProbe::kPowerIterations : 1;
    const double gradients = 2.0 * products * static_cast<double>(schema.layer_count());
    return kFullBits * (forward + gradients * 3 * forward);
}

double mean_bits(const Schema& schema, const PrecisionPlan& plan) {
    const BitOps sample = count_bit_ops(schema, plan, 1, 0);
    return sample.training_fp32 == 0 ? kFullBits : kFullBits * sample.training / sample.training_fp32;
}

}  // namespace dither
