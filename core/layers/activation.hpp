// Activations, element by element.
#pragma once

#include "core/layers/layer.hpp"

#include <memory>

namespace dither {

/// y = max(x, 0), dx = dy where y > 0 and 0 elsewhere. A NaN stays one, so that a diverged network shows.
/// x and y: [batch, ...] of any shape; `input` is one item, batch extent 1.
std::unique_ptr<Layer> make_relu(const Shape& input);

}  // namespace dither
