// Activations, element by element. x and y: [batch, ...] of any shape; `input` is one item, batch extent 1. Each works
// in place where it may. A NaN stays one, so that a diverged network shows.
#pragma once

#include "core/layers/layer.hpp"

#include <memory>

namespace dither {

/// y = max(x, 0). This one and the next two keep a bit for each value: dx = dy strictly inside the bounds and 0
/// elsewhere.
std::unique_ptr<Layer> make_relu(const Shape& input);
/// y = min(max(x, 0), 6) (Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010).
std::unique_ptr<Layer> make_relu6(const Shape& input);
/// y = min(max(x, -1), 1) (Collobert, Weston, Bottou et al., "Natural language processing (almost) from scratch",
/// 2011).
std::unique_ptr<Layer> make_hard_tanh(const Shape& input);
/// y = tanh(x) within 3 units in the last place, with the same bits on every processor; dx = dy * (1 - y^2). Keeps y.
std::unique_ptr<Layer> make_tanh(const Shape& input);

}  // namespace dither
