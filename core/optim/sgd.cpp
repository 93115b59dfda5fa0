// v <- momentum * v + g      w <- w - lr * v, with nesterov w <- w - lr * (g + momentum * v)
// Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep learning", ICML 2013, in
// the form of torch.optim.SGD: the rate scales the step, not the buffer.
#include "core/optim/detail/block_rounder.hpp"
#include "core/optim/detail/kernels.hpp"
#include "core/optim/detail/optimizers.hpp"

#include <algorithm>

namespace dither {
namespace {

class Sgd final : public Optimizer {
public:
    Sgd(const OptimizerOptions& options, const Schema& schema)
        : lr_(options.lr),
          rule_{.lr = 0,  // of each step
                .momentum = static_cast<float>(options.momentum),
                .weight_decay = static_cast<float>(options.weight_decay),
                .nesterov = options.nesterov},
          schema_(schema),
          velocity_(options.momentum == 0 ? 0 : schema.parameters(), 0.0F) {}

    void reset() override { std::fill(velocity_.begin(), velocity_.end(), 0.0F); }

    void step(std::span<float> parameters, std::span<const float> gradients, const PrecisionPlan* plan,
              const StreamKey& key, double rate) override {
        check_step(schema_, parameters, gradients, plan);
        rule_.lr = static_cast<float>(lr_ * rate);
        for (std::size_t i = 0; i < schema_.layer_count(); ++i) {
            const std::size_t count = schema_.layers()[i].trained_count();
            step_layer(i, schema_.slice(parameters, i).first(count), schema_.slice(gradients, i).first(count),
                       state_bits(plan, i), key);
        }
    }

    float step_gain(std::size_t) const override { return 1; }

private:
    void step_layer(std::size_t index, std::span<float> w, std::span<const float> g, int bits, const StreamKey& key) {
        if (velocity_.empty()) {
            kernels::sgd(w.data(), g.data(), nullptr, w.size(), rule_);
            return;
        }
        const std::span<float> v = schema_.slice(std::span<float>(velocity_), index);
        if (bits == kFullBits) {
            kernels::sgd(w.data(), g.data(), v.data(), w.size(), rule_);
            return;
        }
        BlockRounder rounder(key, index, bits);
        for (std::size_t begin = 0; begin < w.size(); begin += BlockRounder::kBlock) {
            const std::size_t count = std::min(BlockRounder::kBlock, w.size() - begin);
            kernels::sgd(w.data() + begin, g.data() + begin, v.data() + begin, count, rule_);
            rounder.round(v.subspan(begin, count));
        }
    }

    double lr_;
    kernels::SgdRule rule_;
    Schema schema_;
    AlignedFloats velocity_;
};

}  // namespace

std::unique_ptr<Optimizer> make_sgd(const OptimizerOptions& options, const Schema& schema) {
    return std::make_unique<Sgd>(options, schema);
}

}  // namespace dither
