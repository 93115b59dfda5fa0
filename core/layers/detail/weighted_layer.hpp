// The layer behind make_linear and make_conv2d (core/layers/weighted.hpp). Private to core/layers.
#pragma once

#include "core/compute/backend.hpp"
#include "core/layers/detail/codes.hpp"
#include "core/layers/layer.hpp"
#include "core/quantize/learned.hpp"
#include "core/quantize/quantizer.hpp"

#include <cstdint>
#include <functional>
#include <memory>

namespace dither {

struct ActivationGrid;
struct QuantizeOptions;

/// What tells one weighted layer from another.
struct WeightedShape {
    std::string_view kind;  ///< "linear", "conv2d"
    Shape input;            ///< one item, batch extent 1
    Shape result;           ///< of the product; one item, batch extent 1
    Shape weight;           ///< output channels last
    ConvGeometry geometry;  ///< a linear layer is the 1x1 convolution of a 1x1 image
    std::int64_t fan_in = 0;
    double macs = 0;
    bool bias = true;
};

/// Makes the products when a plan first needs them. They borrow the backend.
struct ProductMakers {
    std::function<std::unique_ptr<Product>()> exact;
    std::function<std::unique_ptr<Product>()> bfloat;          ///< empty where there are none; or makes null
    std::function<std::unique_ptr<IntegerProduct>()> integer;  ///< empty where sums could leave 32 bits
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
    Affinity affinity() const override { return {.input = true, .parameters = true}; }
    double kept_inputs() const override { return static_cast<double>(shape_.input.count()); }
    void attach(std::size_t index, std::span<float> values, std::span<float> gradients) override;
    void reset() override;
    void report(LayerStatistics& statistics) const override;
    bool absorb(Tail tail) override;
    void lower(Lowering& out) override;

private:
    /// What the layer measured since reset().
    struct Measured {
        std::uint64_t quantized = 0;  ///< values of activations and weights
        std::uint64_t clipped = 0;    ///< of them
        std::uint64_t passes = 0;     ///< quantized forward passes in training
        QuantError weights;           ///< of Q_f on the weights, sampled
        QuantError gradients;         ///< of dy at kProbeBits
        std::uint64_t nonzero = 0;    ///< values of dy, sampled
        std::uint64_t underflow = 0;  ///< of them that were rounded to 0
    };

    /// The bits of each operand.
    struct Widths {
        int weights = kFullBits;
        int inputs = kFullBits;
        int gradients = kFullBits;  ///< of every operand of the backward pass, at most
    };

    // Forward.
    std::span<const float> parameters_of(const Pass& pass);
    Tensor with_drop_in(Tensor x, const Pass& pass) const;
    void set_ranges(const Tensor& x, const Pass& pass);
    Tensor forward_exact(Tensor x, std::span<const float> bias, const Pass& pass);
    Tensor forward_integer(Tensor x, std::span<const float> bias, const Pass& pass);
    void keep_clipped(const Tensor& x, const Pass& pass);
    void keep_statistics(const Pass& pass, std::span<const float> quantized_weights);
    /// Keeps x~, as codes of the backward bits where the backward pass runs on integers.
    void keep_input(Tensor x, const Pass& pass);
    void keep_codes(const Tensor& x, const Pass& pass);
    void narrow_codes(const Pass& pass);
    bool samples_weight_error(const Pass& pass) const;
    Buffer<std::uint8_t> plan_places(std::int64_t batch, const Pass& pass) const;

    // Backward.
    Tensor backward_exact(Tensor dy, const Pass& pass, bool wanted);
    Tensor backward_integer(Tensor dy, const Pass& pass, bool wanted);
    std::span<const float> decoded_weights();
    std::span<const float> backward_weights();
    Tensor backward_input_values(const Pass& pass);
    const WeightCodes& backward_weight_codes();
    std::span<const float> gradient_units();
    Tensor in_units(Tensor dy, std::span<const float> units, const Pass& pass) const;
    Tensor rounded_gradient(Tensor dy, const Pass& pass);
    void encode_gradient(Tensor dy, std::span<const float> units, const Pass& pass);
    void sum_bias_gradient(std::span<const float> units, const Pass& pass);
    std::span<const std::int8_t> result_gradient(std::int64_t first, std::int64_t items,
                                                 Buffer<std::int8_t>& room) const;
    Buffer<std::int8_t> spread_room(std::int64_t block, const Pass& pass) const;
    void sum_weight_gradient(std::span<const float> units, const Pass& pass);
    Tensor input_gradient(const WeightCodes& weights, std::span<const float> units, const Pass& pass);
    float align_items(std::span<const float> scales);
    void measure_gradient(const Tensor& dy, const Pass& pass);
    void count_underflow(std::uint64_t before, std::uint64_t after);
    void train_ranges(const Tensor& dx, const Pass& pass);
    void mask_weight_gradient() const;

    // Conversion (weighted_lower.cpp).
    void check_integer_form(const Lowering& out) const;
    ActivationGrid grid_for(float reach);

    Widths widths(const Pass& pass) const;
    bool narrows_weights() const { return widths_.gradients < widths_.weights; }  ///< for the backward pass
    bool narrows_inputs() const { return widths_.gradients < widths_.inputs; }
    bool has_integer_weights() const;
    bool learns_weights() const;
    bool learns_inputs() const;
    QuantLayout weight_layout() const;
    QuantLayout input_layout() const;
    QuantLayout gradient_layout() const;
    bool runs_integers() const { return execution_ == Execution::integer && makers_.integer != nullptr; }
    bool integer_forward() const;
    bool integer_backward() const;
    bool bfloat_forward() const;
    bool bfloat_backward() const;
    /// On rounded values: on bfloat16 units where all operands are such values and there are any, else in fp32.
    Product& float_product(bool bfloat_operands);
    IntegerProduct& integer_product();
    std::int64_t channels() const { return shape_.weight[shape_.weight.rank() - 1]; }
    std::size_t weight_count() const { return static_cast<std::size_t>(shape_.weight.count()); }
    std::span<float> weight_gradient() const { return gradients_.first(weight_count()); }

    WeightedShape shape_;
    ProductMakers makers_;
    std::unique_ptr<Product> exact_;
    std::unique_ptr<Product> bfloat_;
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
    Quantizer probe_quantizer_;                   ///< for backward_error
    std::unique_ptr<LearnedRange> weight_range_;  ///< null where ranges are not learned
    std::unique_ptr<LearnedRange> input_range_;
    std::size_t index_ = 0;
    std::span<float> values_;  ///< weights and bias
    std::span<float> gradients_;
    std::span<float> range_gradients_;      ///< of the learned ranges
    std::vector<float> no_bias_;            ///< zeros, for a layer without one
    AlignedFloats noisy_;                   ///< weights and bias with noise
    AlignedFloats rounded_;                 ///< weights, where they are needed as rounded floats
    std::vector<float> factors_;            ///< [output channels], scratch
    std::vector<float> units_;              ///< [output channels], scratch
    GradientCodes gradient_;                ///< of the backward pass at hand
    std::vector<std::uint8_t> shifts_;      ///< [items], scratch
    std::vector<std::uint8_t> held_;        ///< places of the last recorded pass
    std::span<const float> exact_weights_;  ///< w + noise, of the last forward pass

    // Kept by the last forward pass.
    Widths widths_;
    std::int64_t batch_ = 0;
    Shape x_shape_;
    std::span<const float> product_weights_;  ///< w~, where the forward pass ran in fp32
    WeightCodes weights_;                     ///< w~, where it ran on integers
    WeightCodes narrow_weights_;
    Tensor exact_input_;  ///< x, where its range is learned
    Tensor input_;        ///< x~, or empty where its codes are kept
    ActivationCodes codes_;
    Buffer<std::uint8_t> places_;   ///< of the tail
    Buffer<std::uint8_t> clipped_;  ///< a bit for each value of x; empty if none

    Measured measured_;
};

}  // namespace dither
