#include "core/optim/local_progress.hpp"

namespace dither {

double local_progress(const TrainOptions& train, std::uint32_t steps) {
    const double momentum = train.optimizer.kind == "sgd" ? train.optimizer.momentum : 0;
    const double pull = train.optimizer.lr * train.proximal;
    double way = 0, velocity = 0;
    for (std::uint32_t step = 0; step < steps; ++step) {
        const double gradient = 1 - pull * way;
        velocity = momentum * velocity + gradient;
        way += train.optimizer.nesterov ? gradient + momentum * velocity : velocity;
    }
    return way;
}

bool normalizes_updates(const StrategyOptions& strategy) {
    return strategy.kind == "fednova";
}

}  // namespace dither
