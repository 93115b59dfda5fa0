#include "core/optim/local_progress.hpp"

#include <cmath>

namespace dither {

double local_progress(const TrainOptions& train, std::uint32_t steps) {
    const double momentum = train.optimizer.momentum;
    const double pull = train.optimizer.lr * train.proximal;
    double norm = 0, way = 0, velocity = 0;  // way: of a gradient that was 1 in the first step, and then 0
    for (std::uint32_t step = 0; step < steps; ++step) {
        const double gradient = (step == 0 ? 1 : 0) - pull * way;
        velocity = momentum * velocity + gradient;
        way += train.optimizer.nesterov ? gradient + momentum * velocity : velocity;
        norm += std::abs(way);
    }
    return norm;
}

bool normalizes_updates(const StrategyOptions& strategy) {
    return strategy.kind == "fednova";
}

bool corrects_steps(const StrategyOptions& strategy) {
    return strategy.kind == "scaffold";
}

}  // namespace dither
