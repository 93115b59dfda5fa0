// m <- beta1 m + (1 - beta1) g      v <- beta2 v + (1 - beta2) g^2      w <- w - lr m^ / (sqrt(v^) + epsilon)
// m^ = m / (1 - beta1^t), v^ = v / (1 - beta2^t)        Kingma, Ba, "Adam", ICLR 2015, algorithm 1.
//
// Weight decay is part of g (adam) or taken from w by itself, w <- (1 - lr * weight_decay) w before the step (adamw:
// Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019).
//
// The state holds sqrt(v) in place of v: it spans half the decades, so that few bits reach small values too.
#include "core/optim/detail/block_rounder.hpp"
#include "core/optim/detail/kernels.hpp"
#include "core/optim/detail/optimizers.hpp"

#include <algorithm>
#include <cmath>

namespace dither {
namespace {

enum class Decay { in_gradient, decoupled };

class Adam final : public Optimizer {
public:
    Adam(const OptimizerOptions& options, const Schema& schema, Decay decay)
        : options_(options),
          decay_(decay),
          schema_(schema),
          moment_(schema.parameters(), 0.0F),
          root_(schema.parameters(), 0.0F) {}

    void reset() override {
        beta1_power_ = 1;
        beta2_power_ = 1;
        std::fill(moment_.begin(), moment_.end(), 0.0F);
        std::fill(root_.begin(), root_.end(), 0.0F);
    }

    void step(std::span<float> parameters, std::span<const float> gradients, const PrecisionPlan* plan,
              const StreamKey& key, double rate) override {
        check_step(schema_, parameters, gradients, plan);
        const kernels::AdamRule rule = next_rule(options_.lr * rate);
        for (std::size_t i = 0; i < schema_.layer_count(); ++i) {
            const std::size_t count = schema_.layers()[i].trained_count();
            step_layer(i, schema_.slice(parameters, i).first(count), schema_.slice(gradients, i).first(count),
                       state_bits(plan, i), key, rule);
        }
    }

    /// gain^2 = sum_j v^_j / (sqrt(v^_j) + epsilon)^2 / sum_j v^_j
    float step_gain(std::size_t layer) const override {
        if (beta2_power_ == 1)
            return kNotMeasured;
        const double correction = 1 / std::sqrt(1 - beta2_power_);
        const std::size_t trained = schema_.layers()[layer].trained_count();
        double squares = 0;
        double weights = 0;
        for (const float root : schema_.slice(std::span<const float>(root_), layer).first(trained)) {
            const double corrected = static_cast<double>(root) * correction;
            const double ratio = corrected / (corrected + options_.epsilon);
            squares += ratio * ratio;
            weights += corrected * corrected;
        }
        return weights == 0 ? kNotMeasured : static_cast<float>(std::sqrt(squares / weights));
    }

private:
    /// Of the next step t, with beta^t by repeated multiplication: the C library's pow has variants with and without
    /// fused multiply-adds, which differ in the last bits.
    kernels::AdamRule next_rule(double lr) {
        beta1_power_ *= options_.beta1;
        beta2_power_ *= options_.beta2;
        return {.beta1 = static_cast<float>(options_.beta1),
                .beta2 = static_cast<float>(options_.beta2),
                .epsilon = static_cast<float>(options_.epsilon),
                .weight_decay = decay_ == Decay::in_gradient ? static_cast<float>(options_.weight_decay) : 0.0F,
                .keep = decay_ == Decay::decoupled ? static_cast<float>(1 - lr * options_.weight_decay) : 1.0F,
                .step_size = static_cast<float>(lr / (1 - beta1_power_)),
                .root_correction = static_cast<float>(1 / std::sqrt(1 - beta2_power_))};
    }

    void step_layer(std::size_t index, std::span<float> w, std::span<const float> g, int bits, const StreamKey& key,
                    const kernels::AdamRule& rule) {
        const std::span<float> m = schema_.slice(std::span<float>(moment_), index);
        const std::span<float> root = schema_.slice(std::span<float>(root_), index);
        if (bits == kFullBits) {
            kernels::adam(w.data(), g.data(), m.data(), root.data(), w.size(), rule);
            return;
        }
        BlockRounder rounder(key, index, bits);
        for (std::size_t begin = 0; begin < w.size(); begin += BlockRounder::kBlock) {
            const std::size_t count = std::min(BlockRounder::kBlock, w.size() - begin);
            kernels::adam(w.data() + begin, g.data() + begin, m.data() + begin, root.data() + begin, count, rule);
            rounder.round(m.subspan(begin, count));
            rounder.round_positive(root.subspan(begin, count));
        }
    }

    OptimizerOptions options_;
    Decay decay_;
    Schema schema_;
    AlignedFloats moment_;
    AlignedFloats root_;
    double beta1_power_ = 1;  ///< beta1^t
    double beta2_power_ = 1;
};

}  // namespace

std::unique_ptr<Optimizer> make_adam(const OptimizerOptions& options, const Schema& schema) {
    return std::make_unique<Adam>(options, schema, Decay::in_gradient);
}

std::unique_ptr<Optimizer> make_adamw(const OptimizerOptions& options, const Schema& schema) {
    return std::make_unique<Adam>(options, schema, Decay::decoupled);
}

}  // namespace dither
