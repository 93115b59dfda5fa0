// The makers of the optimizers; make_optimizer chooses. Private to core/optim.
#pragma once

#include "core/config.hpp"
#include "core/optim/optimizer.hpp"

namespace dither {

std::unique_ptr<Optimizer> make_sgd(const OptimizerOptions& options, const Schema& schema);
std::unique_ptr<Optimizer> make_adam(const OptimizerOptions& options, const Schema& schema);
std::unique_ptr<Optimizer> make_adamw(const OptimizerOptions& options, const Schema& schema);

/// What every step requires of its operands.
void check_step(const Schema& schema, std::span<const float> parameters, std::span<const float> gradients,
                const PrecisionPlan* plan);
/// Width of layer `index`'s state.
int state_bits(const PrecisionPlan* plan, std::size_t index);

}  // namespace dither
