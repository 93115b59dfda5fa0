// Curvature of each layer's Hessian block from Hessian-vector products, by central differences of the gradient:
//     H v ~ (g(theta + eps v) - g(theta - eps v)) / (2 eps),     eps = 1e-3 * (1 + ||theta_i||) / ||v||
// on one batch in fp32 without noise, theta_i the trained parameters of layer i and v zero outside them, with the
// branches of ReLU and max pool held as they are at theta. Without that, each unit that the step carries over its kink
// adds a jump of the gradient, and their sum grows as 1 / sqrt(eps) instead of converging. What is measured is what
// automatic differentiation would give.
//     curvature       h_i     = ||H_ii v|| / ||v||, v Rademacher: the RMS of the block's singular values in expectation
//     curvature_norm  kappa_i = ||H_ii||_2 by power iteration from the same v, and with it
//     lipschitz       ||W||_2 of the layer's weight as a matrix [fan_in, out], by power iteration on W^T W; for a
//                     convolution times sqrt(kernel_h * kernel_w), which bounds its operator (Singla and Feizi 2021);
//                     not measured for a layer without a matrix, such as a norm
// Pearlmutter 1994 (products), Hutchinson 1990 (Rademacher probes).
#pragma once

#include "core/data/dataset.hpp"
#include "core/model/loss.hpp"
#include "core/model/model.hpp"
#include "core/precision/policy.hpp"

#include <span>
#include <vector>

namespace dither {

/// Measures what `probe` asks for on `batch` and writes it into `statistics` (one entry a layer); curvature_norm gives
/// curvature too, from its first iteration. Leaves the model's parameters as they were, bit for bit, and overwrites its
/// gradients. Costs one forward pass and 2 gradients a layer for curvature, 2 * kPowerIterations for curvature_norm
/// (probe_bit_ops counts them). `key` carries client
/// and round. Plans its memory on first use.
class CurvatureProbe {
public:
    static constexpr int kPowerIterations = 8;

    void measure(Model& model, const Loss& loss, const Batch& batch, Probe probe, const StreamKey& key,
                 std::span<LayerStatistics> statistics);

    /// H_ii v for the layer at `index`, all other layers held still. v and product: one value for each of the
    /// layer's trained parameters.
    void hessian_product(Model& model, const Loss& loss, const Batch& batch, std::size_t index,
                         std::span<const float> v, std::span<float> product);

private:
    /// H_ii v from the branches recorded last.
    void difference(Model& model, const Loss& loss, const Batch& batch, std::size_t index, std::span<const float> v,
                    std::span<float> product);
    void measure_layer(Model& model, const Loss& loss, const Batch& batch, std::size_t index, Probe probe,
                       Stream& stream, LayerStatistics& statistics);

    std::vector<float> saved_;
    std::vector<float> direction_;
    std::vector<float> product_;
};

/// Spectral norm of a layer's operator (for a convolution an upper bound), from its parameters. `stream` draws the
/// start. kNotMeasured if the layer has no tensor of rank 2 or 4.
float operator_norm(const LayerSpec& layer, std::span<const float> parameters, Stream& stream);

}  // namespace dither
