// Curvature of each layer's Hessian block from Hessian-vector products on one batch, in fp32 without noise, with the
// branches of ReLU and max pool held as they are at theta: what automatic differentiation would give. With free
// branches, each unit that a step carries over its kink adds a jump of the gradient, and their sum grows as
// 1 / sqrt(step) instead of converging. theta_i are the trained parameters of layer i; v is zero outside them.
//
// exact: where everything behind layer i is affine (held branches, Model::affine_in), the output z is affine in
// theta_i, and H_ii is J_i^T H_L J_i, H_L the Hessian of the loss in z, which the loss knows:
//     u = J_i v = (z(theta + s v) - z(theta)) / s          H_ii v = J_i^T (H_L u), one backward pass
// s has no truncation to keep small, only the rounding of z to stay above: with ||s v|| = 1 + ||theta_i||, z changes by
// about as much as it is.
//
// differences: H v ~ (g(theta + eps v) - g(theta - eps v)) / (2 eps), eps = 1e-3 * (1 + ||theta_i||) / ||v||
//
// The exact method takes differences for layers that tanh, group norm or unfrozen batch norm follow: none of linear,
// mlp, cnn2 and cnn4, all of resnet8 and mobilenet but those behind the input of the last batch norm.
//
//     curvature        h_i     = ||H_ii v|| / ||v||, v Rademacher: near the RMS of the block's singular values
//     curvature_trace  tr H_ii = v^T H_ii v of the same v, in expectation; a negative estimate counts as 0
//     curvature_norm   kappa_i = ||H_ii||_2 by power iteration from the same v, and with it
//     lipschitz        ||W||_2 of the layer's weight as a matrix [fan_in, out], by power iteration on W^T W; for a
//                      convolution times sqrt(kernel_h * kernel_w), which bounds its operator (Singla and Feizi 2021);
//                      not measured for a layer without a matrix, such as a norm
//
// Pearlmutter 1994 (products), Schraudolph 2002 (J^T H_L J), Hutchinson 1990 (Rademacher probes, traces).
#pragma once

#include "core/choice.hpp"
#include "core/data/dataset.hpp"
#include "core/model/loss.hpp"
#include "core/model/model.hpp"
#include "core/precision/policy.hpp"

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace dither {

enum class CurvatureMethod : std::uint8_t { exact, differences };
/// By its name in the job file. Throws InputError on an unknown one.
CurvatureMethod curvature_method(std::string_view name);
std::vector<Choice> curvature_method_choices();

/// Not thread-safe; plans its memory on first use. probe_work() (core/precision/probe.hpp) says what it costs.
class CurvatureProbe {
public:
    static constexpr int kPowerIterations = 8;

    explicit CurvatureProbe(CurvatureMethod method = CurvatureMethod::exact) : method_(method) {}

    /// Measures what `probe` asks for on `batch` and writes it into `statistics` (one entry a layer): curvature and
    /// curvature_trace, and for curvature_norm also curvature_norm and lipschitz; nothing without either flag. Leaves
    /// the model's parameters as they were, bit for bit, even when it fails, and overwrites its gradients. `key`
    /// carries client and round.
    void measure(Model& model, const Loss& loss, const Batch& batch, Probe probe, const StreamKey& key,
                 std::span<LayerStatistics> statistics);

    /// H_ii v for the layer at `index`, all other layers held still. v and product: one value for each of the
    /// layer's trained parameters.
    void hessian_product(Model& model, const Loss& loss, const Batch& batch, std::size_t index,
                         std::span<const float> v, std::span<float> product);

private:
    /// H_ii v from the branches recorded last.
    void multiply(Model& model, const Loss& loss, const Batch& batch, std::size_t index, std::span<const float> v,
                  std::span<float> product);
    void exact(Model& model, const Loss& loss, const Batch& batch, std::size_t index, std::span<const float> v,
               std::span<float> product);
    void difference(Model& model, const Loss& loss, const Batch& batch, std::size_t index, std::span<const float> v,
                    std::span<float> product);
    void measure_layer(Model& model, const Loss& loss, const Batch& batch, std::size_t index, Probe probe,
                       Stream& stream, LayerStatistics& statistics);

    CurvatureMethod method_;
    std::vector<float> saved_;
    std::vector<float> direction_;
    std::vector<float> product_;
};

/// Spectral norm of a layer's operator (for a convolution an upper bound), from its parameters. `stream` draws the
/// start. kNotMeasured if the layer has no tensor of rank 2 or 4.
float operator_norm(const LayerSpec& layer, std::span<const float> parameters, Stream& stream);

}  // namespace dither
