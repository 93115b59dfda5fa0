// How far a client's optimizer could go: what FedNova divides updates by.
#pragma once

#include "core/config.hpp"

#include <cstdint>

namespace dither {

/// The sum of the magnitudes with which the gradients of `steps` steps of sgd enter a client's change, in learning
/// rates: ||a||_1 of Wang et al., "Tackling the objective inconsistency problem in heterogeneous federated
/// optimization", NeurIPS 2020, section 4, with momentum, Nesterov's too, and the pull of train.proximal back to where
/// a parameter came from. Plain sgd: `steps`. At least 1 for a step or more. Schedules count as constant.
double local_progress(const TrainOptions& train, std::uint32_t steps);
/// Whether a client's update is its change divided by that.
bool normalizes_updates(const StrategyOptions& strategy);
/// Whether clients correct their steps by control variates.
bool corrects_steps(const StrategyOptions& strategy);

}  // namespace dither
