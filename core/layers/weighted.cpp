#include "core/layers/weighted.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/simd.hpp"

#include <algorithm>
#include <cmath>

namespace dither {
namespace {

constexpr int kProbeBits = 4;                     // the width whose error decides whether gradients may go that low
constexpr std::uint32_t kProbeLane = 1U << 16;    // the probe's rounding is independent of the gradient's own
constexpr std::uint64_t kWeightErrorPeriod = 16;  // passes between samples of the weights' error: it moves slowly

/// sums[c] = sum over rows of g[r][c], four rows at a time: a quarter of the additions wait for the one before.
DITHER_CLONES void column_sums(const float* g, std::size_t rows, std::size_t columns, float* sums) {
    for (std::size_t c = 0; c < columns; ++c)
        sums[c] = 0;
    std::size_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        const float* row = g + r * columns;
        for (std::size_t c = 0; c < columns; ++c)
            sums[c] += (row[c] + row[c + columns]) + (row[c + 2 * columns] + row[c + 3 * columns]);
    }
    for (; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c)
            sums[c] += g[r * columns + c];
}

/// Nearest rounding over the exact range, with the scheme of `options`.
QuantizerOptions narrowing(QuantizerOptions options) {
    options.rounding = Rounding::nearest;
    options.observer = Observer::minmax;
    return options;
}

constexpr QuantizerOptions kProbeOptions{Symmetry::symmetric, Granularity::per_sample, Rounding::stochastic,
                                         Observer::minmax};

void add(QuantError& sum, const QuantError& term) {
    sum.error += term.error;
    sum.signal += term.signal;
}

/// Room for `batch` items, planned for `max_batch` of them at the first call.
std::span<float> plan(Tensor& tensor, const Shape& item, std::int64_t batch, std::int64_t max_batch) {
    tensor.resize(item.with_batch(max_batch));
    tensor.resize(item.with_batch(batch));
    return tensor.values();
}

}  // namespace

WeightedLayer::WeightedLayer(const WeightedShape& shape, std::unique_ptr<Product> product,
                             const QuantizeOptions& quantize, std::int64_t max_batch)
    : shape_(shape),
      product_(std::move(product)),
      max_batch_(max_batch),
      weight_quantizer_(quantize.weights),
      input_quantizer_(quantize.activations),
      gradient_quantizer_(quantize.gradients),
      narrow_weight_quantizer_(narrowing(quantize.weights)),
      narrow_input_quantizer_(narrowing(quantize.activations)),
      probe_quantizer_(kProbeOptions) {}

std::vector<ParameterSpec> WeightedLayer::parameters() const {
    const std::int64_t out = shape_.weight[shape_.weight.rank() - 1];
    return {{"weight", shape_.weight, shape_.fan_in}, {"bias", Shape{out}, shape_.fan_in}};
}

void WeightedLayer::attach(std::size_t index, std::span<float> values, std::span<float> gradients) {
    const std::size_t count = weight_count() + static_cast<std::size_t>(shape_.weight[shape_.weight.rank() - 1]);
    require(values.size() == count && gradients.size() == count, "{}: expected {} parameters, got {} and {} gradients",
            shape_.kind, count, values.size(), gradients.size());
    index_ = index;
    values_ = values;
    gradients_ = gradients;
}

void WeightedLayer::reset() {
    for (Quantizer* quantizer : {&weight_quantizer_, &input_quantizer_, &gradient_quantizer_})
        quantizer->reset();
    measured_ = {};
}

QuantLayout WeightedLayer::layout_of(const Shape& item, std::int64_t samples) {
    const std::int64_t columns = item[item.rank() - 1];
    return {.rows = static_cast<std::size_t>(samples * item.count() / columns),
            .columns = static_cast<std::size_t>(columns),
            .samples = static_cast<std::size_t>(samples)};
}

LayerBits WeightedLayer::bits(const Pass& pass) const {
    if (pass.plan == nullptr)
        return {};
    require(index_ < pass.plan->layers.size(), "the plan has {} layers, but layer {} asks it", pass.plan->layers.size(),
            index_);
    return pass.plan->layers[index_];
}

std::span<const float> WeightedLayer::parameters_of(const Pass& pass) {
    if (!pass.training || pass.noise == nullptr)
        return values_;
    noisy_.resize(values_.size());
    pass.noise->perturb(values_, noisy_, pass.key.with(Purpose::weight_noise, static_cast<std::uint32_t>(index_)));
    return noisy_;
}

void WeightedLayer::forward(const Tensor& x, Tensor& y, const Pass& pass) {
    const std::int64_t batch = x.shape()[0];
    require(batch <= max_batch_ && x.count() == batch * shape_.input.count(),
            "{}: expected up to {} items of {} values, got {} items with {} values in all", shape_.kind, max_batch_,
            shape_.input.count(), batch, x.count());
    const std::span<const float> parameters = parameters_of(pass);
    exact_weights_ = parameters.first(weight_count());
    product_weights_ = exact_weights_;
    product_input_ = x.values();
    forward_bits_ = bits(pass).forward;
    if (forward_bits_ != kFullBits)
        quantize_operands(x, pass);
    y.resize(shape_.output.with_batch(batch));
    product_->forward(batch, product_input_, product_weights_, parameters.subspan(weight_count()), y.values());
}

void WeightedLayer::quantize_operands(const Tensor& x, const Pass& pass) {
    const std::int64_t batch = x.shape()[0];
    const auto lane = static_cast<std::uint32_t>(2 * index_);
    weights_.resize(weight_count());
    weight_quantizer_.apply(exact_weights_, weights_, layout_of(shape_.weight, 1), forward_bits_,
                            pass.key.with(Purpose::forward_rounding, lane), pass.training);
    const std::span<float> input = plan(input_, shape_.input, batch, max_batch_);
    input_quantizer_.apply(x.values(), input, layout_of(shape_.input, batch), forward_bits_,
                           pass.key.with(Purpose::forward_rounding, lane + 1), pass.training);
    product_weights_ = weights_;
    product_input_ = input;
    if (pass.training)
        keep_statistics(pass);
}

void WeightedLayer::keep_statistics(const Pass& pass) {
    measured_.quantized += product_weights_.size() + product_input_.size();
    measured_.clipped += weight_quantizer_.clipped() + input_quantizer_.clipped();
    if (pass.measure || measured_.passes % kWeightErrorPeriod == 0)
        add(measured_.weights, quant_error(exact_weights_, product_weights_));
    ++measured_.passes;
}

void WeightedLayer::backward(const Tensor& x, const Tensor&, const Tensor& dy, Tensor* dx, const Pass& pass) {
    const std::int64_t batch = x.shape()[0];
    const int backward_bits = bits(pass).backward;
    const std::span<const float> gradient = quantized_gradient(dy, backward_bits, pass);
    if (backward_bits < forward_bits_)
        narrow_operands(batch, backward_bits);

    const std::span<float> dw = gradients_.first(weight_count());
    const std::span<float> db = gradients_.subspan(weight_count());
    column_sums(gradient.data(), gradient.size() / db.size(), db.size(), db.data());
    product_->backward_weights(batch, product_input_, gradient, dw);
    mask_weight_gradient(dw);
    if (dx == nullptr)
        return;
    dx->resize(x.shape());
    product_->backward_input(batch, gradient, product_weights_, dx->values());
    mask_input_gradient(x, *dx);
}

std::span<const float> WeightedLayer::quantized_gradient(const Tensor& dy, int backward_bits, const Pass& pass) {
    if (pass.measure)
        measure_gradient(dy, pass);
    if (backward_bits == kFullBits)
        return dy.values();
    const std::int64_t batch = dy.shape()[0];
    const std::span<float> gradient = plan(gradient_, shape_.output, batch, max_batch_);
    gradient_quantizer_.apply(dy.values(), gradient, layout_of(shape_.output, batch), backward_bits,
                              pass.key.with(Purpose::gradient_rounding, static_cast<std::uint32_t>(index_)),
                              pass.training);
    return gradient;
}

void WeightedLayer::measure_gradient(const Tensor& dy, const Pass& pass) {
    const std::int64_t batch = dy.shape()[0];
    const auto lane = kProbeLane + static_cast<std::uint32_t>(index_);
    const std::span<float> rounded = plan(gradient_, shape_.output, batch, max_batch_);
    probe_quantizer_.apply(dy.values(), rounded, layout_of(shape_.output, batch), kProbeBits,
                           pass.key.with(Purpose::gradient_rounding, lane));
    add(measured_.gradients, quant_error(dy.values(), rounded));
}

void WeightedLayer::narrow_operands(std::int64_t batch, int backward_bits) {
    weights_.resize(weight_count());
    narrow_weight_quantizer_.apply(product_weights_, weights_, layout_of(shape_.weight, 1), backward_bits, {});
    const std::span<float> input = plan(input_, shape_.input, batch, max_batch_);
    narrow_input_quantizer_.apply(product_input_, input, layout_of(shape_.input, batch), backward_bits, {});
    product_weights_ = weights_;
    product_input_ = input;
}

void WeightedLayer::mask_weight_gradient(std::span<float> dw) const {
    if (forward_bits_ != kFullBits && weight_quantizer_.clipped() > 0)
        weight_quantizer_.mask_gradient(exact_weights_, dw, layout_of(shape_.weight, 1));
}

void WeightedLayer::mask_input_gradient(const Tensor& x, Tensor& dx) const {
    if (forward_bits_ != kFullBits && input_quantizer_.clipped() > 0)
        input_quantizer_.mask_gradient(x.values(), dx.values(), layout_of(shape_.input, x.shape()[0]));
}

void WeightedLayer::report(LayerStatistics& statistics) const {
    const Measured& m = measured_;
    if (m.quantized > 0)
        statistics.saturation = static_cast<float>(static_cast<double>(m.clipped) / static_cast<double>(m.quantized));
    if (m.weights.signal > 0)
        statistics.forward_error = static_cast<float>(std::sqrt(m.weights.error / m.weights.signal));
    if (m.gradients.signal > 0)
        statistics.backward_error = static_cast<float>(std::sqrt(m.gradients.error / m.gradients.signal));
}

std::unique_ptr<Layer> make_linear(std::int64_t in, std::int64_t out, const QuantizeOptions& quantize,
                                   const Backend& backend, std::int64_t max_batch) {
    const WeightedShape shape{.kind = "linear",
                              .input = {1, in},
                              .output = {1, out},
                              .weight = {in, out},
                              .fan_in = in,
                              .macs = static_cast<double>(in * out)};
    return std::make_unique<WeightedLayer>(shape, backend.linear(in, out, max_batch), quantize, max_batch);
}

std::unique_ptr<Layer> make_conv2d(const ConvGeometry& g, const QuantizeOptions& quantize, const Backend& backend,
                                   std::int64_t max_batch) {
    const std::int64_t fan_in = g.kernel * g.kernel * g.in_channels;
    const Shape output{1, g.out_height(), g.out_width(), g.out_channels};
    const WeightedShape shape{.kind = "conv2d",
                              .input = {1, g.in_height, g.in_width, g.in_channels},
                              .output = output,
                              .weight = {g.kernel, g.kernel, g.in_channels, g.out_channels},
                              .fan_in = fan_in,
                              .macs = static_cast<double>(output.count() * fan_in)};
    return std::make_unique<WeightedLayer>(shape, backend.convolution(g, max_batch), quantize, max_batch);
}

}  // namespace dither
