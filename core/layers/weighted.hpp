// The one layer with weights: y = x * w + b for any bilinear product. Quantization, noise and their statistics live
// here, so that linear and conv2d differ only in the product that they hand over.
//
//     forward    w~ = Q_f(w + noise)    x~ = Q_f(x)      y  = x~ * w~ + (b + noise)
//     backward   g~ = Q_b(dy)           db = sum g~      dw = x~_b^T g~ (masked)      dx = g~ * w~_b^T (masked)
//
// Q_f has the plan's forward bits, Q_b its backward bits; x~_b and w~_b are x~ and w~ when the backward bits suffice
// for them and are quantized again to the backward bits otherwise, so that every operand of a backward product has
// them.
#pragma once

#include "core/compute/backend.hpp"
#include "core/layers/layer.hpp"
#include "core/quantize/quantizer.hpp"

#include <cstdint>
#include <memory>

namespace dither {

struct QuantizeOptions;

/// What tells one weighted layer from another.
struct WeightedShape {
    std::string_view kind;  ///< "linear", "conv2d"
    Shape input;            ///< one item, batch extent 1
    Shape output;           ///< one item, batch extent 1
    Shape weight;           ///< output channels last
    std::int64_t fan_in = 0;
    double macs = 0;
};

class WeightedLayer final : public Layer {
public:
    WeightedLayer(const WeightedShape& shape, std::unique_ptr<Product> product, const QuantizeOptions& quantize,
                  std::int64_t max_batch);

    std::string_view kind() const override { return shape_.kind; }
    Shape output_shape() const override { return shape_.output; }
    void forward(const Tensor& x, Tensor& y, const Pass& pass) override;
    void backward(const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx, const Pass& pass) override;
    std::vector<ParameterSpec> parameters() const override;
    double macs() const override { return shape_.macs; }
    void attach(std::size_t index, std::span<float> values, std::span<float> gradients) override;
    void reset() override;
    void report(LayerStatistics& statistics) const override;

private:
    /// What the layer measured since reset().
    struct Measured {
        std::uint64_t quantized = 0;  ///< values of activations and weights
        std::uint64_t clipped = 0;    ///< of them
        std::uint64_t passes = 0;     ///< quantized forward passes in training
        QuantError weights;           ///< of Q_f on the weights, sampled
        QuantError gradients;         ///< of dy at kProbeBits
    };

    LayerBits bits(const Pass& pass) const;
    std::span<const float> parameters_of(const Pass& pass);
    void quantize_operands(const Tensor& x, const Pass& pass);
    void keep_statistics(const Pass& pass);
    /// Brings x~ and w~ down to the backward bits where they have more.
    void narrow_operands(std::int64_t batch, int backward_bits);
    std::span<const float> quantized_gradient(const Tensor& dy, int backward_bits, const Pass& pass);
    void measure_gradient(const Tensor& dy, const Pass& pass);
    void mask_weight_gradient(std::span<float> dw) const;
    void mask_input_gradient(const Tensor& x, Tensor& dx) const;
    /// The item's last extent is its channels; `samples` groups of rows.
    static QuantLayout layout_of(const Shape& item, std::int64_t samples);
    std::size_t weight_count() const { return static_cast<std::size_t>(shape_.weight.count()); }

    WeightedShape shape_;
    std::unique_ptr<Product> product_;
    std::int64_t max_batch_;
    Quantizer weight_quantizer_;
    Quantizer input_quantizer_;
    Quantizer gradient_quantizer_;
    Quantizer narrow_weight_quantizer_;  ///< to the backward bits: nearest, exact range
    Quantizer narrow_input_quantizer_;
    Quantizer probe_quantizer_;  ///< for backward_error
    std::size_t index_ = 0;
    std::span<float> values_;
    std::span<float> gradients_;

    // Planned at the first pass that needs them: an fp32 layer without noise works on its operands in place.
    AlignedFloats noisy_;    ///< weights and bias with noise
    AlignedFloats weights_;  ///< w~
    Tensor input_;           ///< x~
    Tensor gradient_;        ///< g~

    // The operands of the last forward pass.
    int forward_bits_ = kFullBits;
    std::span<const float> exact_weights_;  ///< w + noise
    std::span<const float> product_weights_;
    std::span<const float> product_input_;

    Measured measured_;
};

/// x: [batch, in], y: [batch, out].
std::unique_ptr<Layer> make_linear(std::int64_t in, std::int64_t out, const QuantizeOptions& quantize,
                                   const Backend& backend, std::int64_t max_batch);
/// x: [batch, h, w, c], y: [batch, h', w', out_channels].
std::unique_ptr<Layer> make_conv2d(const ConvGeometry& geometry, const QuantizeOptions& quantize,
                                   const Backend& backend, std::int64_t max_batch);

}  // namespace dither
