// Nesterov's momentum at the server: v = momentum v + Delta; model += server_lr (Delta + momentum v), with Delta the
// mean update.
#pragma once

#include "aggregator/strategy.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <memory>
#include <vector>

namespace guide {

class Nesterov final : public dither::Strategy {
public:
    Nesterov(const dither::StrategyOptions& options, const dither::Schema& schema)
        : Strategy(options, schema), velocity_(schema.parameters()) {}

    // What a resumed run needs.
    std::span<const float> state() const override { return velocity_; }
    void restore(std::span<const float> state) override {
        dither::require(state.size() == velocity_.size(), "{} velocities, expected {}", state.size(), velocity_.size());
        std::ranges::copy(state, velocity_.begin());
    }

private:
    // Called for the trained parameters of each layer; mean_update becomes the next model.
    void move(std::size_t offset, std::span<const float> model, std::span<float> mean_update) override {
        const double momentum = options().momentum;
        for (std::size_t j = 0; j < model.size(); ++j) {
            const double delta = mean_update[j];
            const double velocity = momentum * velocity_[offset + j] + delta;
            velocity_[offset + j] = static_cast<float>(velocity);
            mean_update[j] = static_cast<float>(model[j] + options().server_lr * (delta + momentum * velocity));
        }
    }

    std::vector<float> velocity_;
};

// In the place of the strategy "fedavgm".
inline std::unique_ptr<dither::Strategy> make_strategy(const dither::Job& job, const dither::Schema& schema) {
    if (job.federation.strategy.kind == "fedavgm")
        return std::make_unique<Nesterov>(job.federation.strategy, schema);
    return dither::make_strategy(job, schema);
}

}  // namespace guide
