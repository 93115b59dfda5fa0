// How far a client's optimizer could go: what FedNova divides updates by.
#pragma once

#include "core/config.hpp"

#include <cstdint>

namespace dither {

/// The way, in learning rates, that `steps` steps of sgd take a parameter whose gradient is always 1: ||a||_1 of Wang
/// et al., "Tackling the objective inconsistency problem in heterogeneous federated optimization", NeurIPS 2020,
/// section 4, with momentum, Nesterov's too, and the pull of train.proximal back to where the parameter came from.
/// Plain sgd: `steps`. Schedules count as constant, and other optimizers as plain sgd.
double local_progress(const TrainOptions& train, std::uint32_t steps);
/// Whether a client's update is its change divided by that.
bool normalizes_updates(const StrategyOptions& strategy);

}  // namespace dither
