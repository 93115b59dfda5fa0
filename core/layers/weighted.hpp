// The one layer with weights: y = x * w + b for any bilinear product, with the pool and the ReLU that follow it.
// Quantization, noise and their statistics live here, so that linear and conv2d differ only in their products.
//
//     forward    w~ = Q_f(w + noise)    x~ = Q_f(x)           y  = x~ * w~ + (b + noise)
//     backward   g~ = Q_b(dy s) / s     db = sum g~           dw = x~_b^T g~ (masked)      dx = g~ * w~_b^T (masked)
//
// Q_f has the plan's forward bits, Q_b its backward bits; x~_b and w~_b are x~ and w~ when the backward bits suffice
// for them and are quantized again to the backward bits otherwise, so that every operand of a backward product has
// them. s are the scales of w~_b's output channels: with them inside the quantizer, the sum over output channels in dx
// is a sum of integers.
//
// Up to 8 bits, the products run on the processor's integer units, and what is kept for the backward pass are codes, a
// byte each. `quantize.execution = "simulated"` runs fp32 on the rounded values instead: the reference, which agrees
// within the rounding of fp32 sums. Schemes without an integer form (affine or per_sample weights, per_channel
// activations or gradients) and 9 to 16 bits are always simulated, but for convolutions of bf16 values where the processor
// has units for them.
#pragma once

#include "core/compute/backend.hpp"
#include "core/layers/layer.hpp"

#include <memory>

namespace dither {

struct QuantizeOptions;

/// x: [batch, in], y: [batch, out]. Borrows the backend, from which products are taken when a plan first needs them.
std::unique_ptr<Layer> make_linear(std::int64_t in, std::int64_t out, bool bias, const QuantizeOptions& quantize,
                                   const Backend& backend, std::int64_t max_batch);
/// x: [batch, h, w, c], y: [batch, h', w', out_channels].
std::unique_ptr<Layer> make_conv2d(const ConvGeometry& geometry, bool bias, const QuantizeOptions& quantize,
                                   const Backend& backend, std::int64_t max_batch);

}  // namespace dither
