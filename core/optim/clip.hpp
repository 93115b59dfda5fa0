// Gradient clipping by the global norm (Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural
// networks", ICML 2013).
#pragma once

#include "core/model/schema.hpp"

#include <span>

namespace dither {

/// Where the norm of the whole gradient, trained tensors only, exceeds `limit` (> 0), multiplies it by
/// limit / (norm + 1e-6), as torch.nn.utils.clip_grad_norm_ does. Returns the norm before, summed in doubles in a fixed
/// order. A gradient whose norm is not finite stays as it is: it is the caller's business.
double clip_gradients(const Schema& schema, std::span<float> gradients, double limit);

}  // namespace dither
