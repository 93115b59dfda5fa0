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
// activations or gradients) and 9 to 16 bits are always simulated.
#pragma once

#include "core/compute/backend.hpp"
#include "core/layers/layer.hpp"
#include "core/quantize/quantizer.hpp"

#include <cstdint>
#include <functional>
#include <memory>

namespace dither {

struct QuantizeOptions;
enum class Execution : std::uint8_t;

/// What tells one weighted layer from another.
struct WeightedShape {
    std::string_view kind;  ///< "linear", "conv2d"
    Shape input;            ///< one item, batch extent 1
    Shape result;           ///< of the product; one item, batch extent 1
    Shape weight;           ///< output channels last
    std::int64_t fan_in = 0;
    double macs = 0;
    bool bias = true;
};

/// Makes the products when a plan first needs them. They borrow the backend.
struct ProductMakers {
    std::function<std::unique_ptr<Product>()> exact;
    std::function<std::unique_ptr<IntegerProduct>()> integer;
};

class WeightedLayer final : public Layer {
public:
    WeightedLayer(const WeightedShape& shape, ProductMakers makers, const QuantizeOptions& quantize,
                  std::int64_t max_batch);

    std::string_view kind() const override { return shape_.kind; }
    Shape output_shape() const override;
    Tensor forward(Tensor x, const Pass& pass) override;
    Tensor backward(Tensor dy, const Pass& pass, bool wanted) override;
    std::vector<ParameterSpec> parameters() const override;
    double macs() const override { return shape_.macs; }
    void attach(std::size_t index, std::span<float> values, std::span<float> gradients) override;
    void reset() override;
    void report(LayerStatistics& statistics) const override;
    bool absorb(Tail tail) override;

private:
    /// The weights of a product: floats, or codes with the scale of each output channel.
    struct Weights {
        std::span<const float> values;
        Buffer<std::uint8_t> codes;  ///< two's complement
        std::vector<float> scales;   ///< [output channels]
    };
    /// Codes of activations: x~ = scale * (code - offset), one scale and offset for each item.
    struct Codes {
        Buffer<std::uint8_t> values;
        std::vector<float> scales;
        std::vector<std::int32_t> offsets;
    };
    /// Codes of the output gradient behind the tail: g~ = scale * code / weight scale.
    struct GradientCodes {
        Buffer<std::uint8_t> values;    ///< two's complement
        std::span<const float> scales;  ///< for each item
    };
    /// What the layer measured since reset().
    struct Measured {
        std::uint64_t quantized = 0;  ///< values of activations and weights
        std::uint64_t clipped = 0;    ///< of them
        std::uint64_t passes = 0;     ///< quantized forward passes in training
        QuantError weights;           ///< of Q_f on the weights, sampled
        QuantError gradients;         ///< of dy at kProbeBits
    };

    // Forward.
    std::span<const float> parameters_of(const Pass& pass);
    Tensor forward_exact(Tensor x, std::span<const float> bias, const Pass& pass);
    Tensor forward_integer(Tensor x, std::span<const float> bias, const Pass& pass);
    void encode_weights(Quantizer& quantizer, std::span<const float> values, int bits, const StreamKey& key,
                        bool update_range, Weights& weights);
    void encode_input(Quantizer& quantizer, std::span<const float> x, int bits, const StreamKey& key, bool update_range,
                      const Pass& pass, Codes& codes);
    void keep_clipped(const Tensor& x, const Pass& pass);
    void keep_statistics(const Pass& pass, std::span<const float> quantized_weights);
    /// Keeps x~, as codes of the backward bits where the backward pass runs on integers.
    void keep_input(Tensor x, const Pass& pass);
    void narrow_codes(int bits);
    Buffer<std::uint8_t> plan_places(std::int64_t batch, const Pass& pass) const;

    // Backward.
    Tensor backward_exact(Tensor dy, const Pass& pass, bool wanted);
    Tensor backward_integer(Tensor dy, const Pass& pass, bool wanted);
    std::span<const float> backward_weights();
    Tensor backward_input_values(const Pass& pass);
    const Weights& backward_weight_codes();
    std::span<const float> gradient_units();
    Tensor rounded_gradient(Tensor dy, const Pass& pass);
    GradientCodes encode_gradient(Tensor dy, std::span<const float> units, const Pass& pass);
    void sum_bias_gradient(const GradientCodes& g, std::span<const float> units, const Pass& pass);
    std::span<const std::int8_t> result_gradient(const GradientCodes& g, std::int64_t first, std::int64_t items,
                                                 Buffer<std::int8_t>& spread) const;
    float align_items(std::span<const float> scales);
    void measure_gradient(const Tensor& dy, const Pass& pass);
    void mask_weight_gradient() const;

    LayerBits bits(const Pass& pass) const;
    bool integer_forward() const;
    bool integer_backward() const;
    Product& exact_product();
    IntegerProduct& integer_product();
    std::int64_t channels() const { return shape_.weight[shape_.weight.rank() - 1]; }
    std::size_t weight_count() const { return static_cast<std::size_t>(shape_.weight.count()); }
    std::span<float> weight_gradient() const { return gradients_.first(weight_count()); }

    WeightedShape shape_;
    ProductMakers makers_;
    std::unique_ptr<Product> exact_;
    std::unique_ptr<IntegerProduct> integer_;
    std::int64_t max_batch_;
    Execution execution_;
    bool pool_ = false;
    bool relu_ = false;
    Quantizer weight_quantizer_;
    Quantizer input_quantizer_;
    Quantizer gradient_quantizer_;
    Quantizer narrow_weight_quantizer_;  ///< to the backward bits: nearest, exact range
    Quantizer narrow_input_quantizer_;
    Quantizer probe_quantizer_;  ///< for backward_error
    std::size_t index_ = 0;
    std::span<float> values_;
    std::span<float> gradients_;
    std::vector<float> no_bias_;            ///< zeros, for a layer without one
    AlignedFloats noisy_;                   ///< weights and bias with noise
    AlignedFloats rounded_;                 ///< weights, where they are needed as rounded floats
    std::vector<float> factors_;            ///< [output channels], scratch
    std::vector<float> units_;              ///< [output channels], scratch
    std::vector<float> gradient_scales_;    ///< [items], scratch
    std::vector<std::uint8_t> shifts_;      ///< [items], scratch
    std::vector<std::uint8_t> held_;        ///< places of the last recorded pass
    std::span<const float> exact_weights_;  ///< w + noise, of the last forward pass

    // Kept by the last forward pass.
    LayerBits bits_;
    std::int64_t batch_ = 0;
    Shape x_shape_;
    Weights weights_;
    Weights narrow_weights_;
    Tensor input_;  ///< x~, or empty where its codes are kept
    Codes codes_;
    Buffer<std::uint8_t> places_;   ///< of the tail
    Buffer<std::uint8_t> clipped_;  ///< a bit for each value of x; empty if none

    Measured measured_;
};

/// x: [batch, in], y: [batch, out].
std::unique_ptr<Layer> make_linear(std::int64_t in, std::int64_t out, bool bias, const QuantizeOptions& quantize,
                                   const Backend& backend, std::int64_t max_batch);
/// x: [batch, h, w, c], y: [batch, h', w', out_channels].
std::unique_ptr<Layer> make_conv2d(const ConvGeometry& geometry, bool bias, const QuantizeOptions& quantize,
                                   const Backend& backend, std::int64_t max_batch);

}  // namespace dither
