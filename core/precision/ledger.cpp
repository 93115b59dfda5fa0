// bit_ops = sum over steps and layers of p_i(t) * FLOPs_i ("End-to-End Quantization-Aware Training via Numerical
// Geometry", section 4.3), FLOPs = 2 * MACs forward and twice that backward: the gradients of the weights and of the
// input are one product each.
#include "core/precision/ledger.hpp"

#include "core/error.hpp"
#include "core/precision/probe.hpp"

namespace dither {

BitOps& BitOps::operator+=(const BitOps& other) {
    training += other.training;
    optimizer += other.optimizer;
    training_fp32 += other.training_fp32;
    optimizer_fp32 += other.optimizer_fp32;
    probe += other.probe;
    bops += other.bops;
    bops_fp32 += other.bops_fp32;
    return *this;
}

LayerBitOps layer_bit_ops(const Schema& schema, const PrecisionPlan& plan, std::size_t layer, std::uint64_t samples,
                          std::uint64_t steps) {
    require(plan.layers.size() == schema.layer_count(), "a plan for {} layers, the model has {}", plan.layers.size(),
            schema.layer_count());
    require(layer < schema.layer_count(), "layer {} of {}", layer, schema.layer_count());
    const LayerSpec& spec = schema.layers()[layer];
    const LayerBits& bits = plan.layers[layer];
    const double flops = 2 * spec.macs * static_cast<double>(samples);
    const double updates = 2 * static_cast<double>(spec.trained_count()) * static_cast<double>(steps);
    return {
        .forward = bits.forward * flops, .backward = bits.backward * 2 * flops, .optimizer = bits.optimizer * updates};
}

BitOps count_bit_ops(const Schema& schema, const PrecisionPlan& plan, std::uint64_t samples, std::uint64_t steps) {
    const PrecisionPlan full = PrecisionPlan::uniform(schema.layer_count(), kFullBits);
    BitOps total;
    for (std::size_t i = 0; i < schema.layer_count(); ++i) {
        const LayerBitOps planned = layer_bit_ops(schema, plan, i, samples, steps);
        const LayerBitOps fp32 = layer_bit_ops(schema, full, i, samples, steps);
        total.training += planned.forward + planned.backward;
        total.optimizer += planned.optimizer;
        total.training_fp32 += fp32.forward + fp32.backward;
        total.optimizer_fp32 += fp32.optimizer;
        // Two operands of p bits make p^2 bit products of a multiplication, which is one of two FLOPs.
        total.bops += (plan.layers[i].forward * planned.forward + plan.layers[i].backward * planned.backward) / 2;
        total.bops_fp32 += kFullBits * (fp32.forward + fp32.backward) / 2;
    }
    return total;
}

double probe_bit_ops(const Schema& schema, const ProbeWork& work, std::uint64_t batch) {
    double forward = 0;
    for (const LayerSpec& layer : schema.layers())
        forward += 2 * layer.macs * static_cast<double>(batch);
    return kFullBits * forward * (work.forwards + 3 * work.gradients);
}

double probe_bit_ops(const Schema& schema, Probe probe, std::uint64_t batch) {
    return probe_bit_ops(schema, probe_work(schema, probe), batch);
}

double mean_bits(const Schema& schema, const PrecisionPlan& plan) {
    const BitOps sample = count_bit_ops(schema, plan, 1, 0);
    return sample.training_fp32 == 0 ? kFullBits : kFullBits * sample.training / sample.training_fp32;
}

}  // namespace dither
