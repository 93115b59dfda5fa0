// Pooling over NHWC images.
#pragma once

#include "core/layers/layer.hpp"

#include <memory>

namespace dither {

/// The maximum of each 2x2 window, stride 2; the gradient goes to the window's first maximum in row order. A NaN stays
/// one. x: [batch, height, width, channels], y: [batch, height / 2, width / 2, channels]; `input` is one item, batch
/// extent 1. Throws PreconditionError unless height and width are even.
std::unique_ptr<Layer> make_max_pool(const Shape& input);

}  // namespace dither
