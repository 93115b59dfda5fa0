// Two ways through the same input, added: the block of a residual network.
#pragma once

#include "core/layers/layer.hpp"

#include <memory>

namespace dither {

/// y = body(x) + shortcut(x) (He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016); a null
/// shortcut is the identity. ReLU is absorbed. Layers within are visited through the body, then through the shortcut.
/// `input` is one item, batch extent 1. Throws PreconditionError unless both ways give the same shape.
std::unique_ptr<Layer> make_residual(const Shape& input, std::unique_ptr<Layer> body,
                                     std::unique_ptr<Layer> shortcut = nullptr);

}  // namespace dither
