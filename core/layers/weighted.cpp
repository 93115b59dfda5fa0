#include "core/layers/weighted.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/layers/detail/operands.hpp"
#include "core/layers/detail/tail.hpp"
#include "core/layers/detail/weighted_layer.hpp"
#include "core/quantize/width.hpp"

#include <algorithm>
#include <cmath>

namespace dither {
namespace {

constexpr std::uint32_t kDropInLane = 1U << 16;   // of Purpose::activation_noise; dropout counts from 0
constexpr std::uint64_t kWeightErrorPeriod = 16;  // passes between samples of the weights' error: it moves slowly

/// Nearest rounding over the exact range, with the scheme of `options`.
QuantizerOptions narrowing(QuantizerOptions options) {
    options.rounding = Rounding::nearest;
    options.observer = Observer::minmax;
    return options;
}

/// What measures whether gradients may have few bits: with their own scheme, whatever their bits are now.
QuantizerOptions probing(QuantizerOptions options) {
    options.rounding = Rounding::stochastic;
    options.observer = Observer::minmax;
    options.bits = 0;
    options.format8 = Format8::int8;
    return options;
}

/// Whether observers learn from the pass.
bool learns(const Pass& pass) {
    return pass.training || pass.calibrate;
}

std::unique_ptr<LearnedRange> learned_range(const QuantizerOptions& options, std::int64_t channels) {
    if (!is_learned(options.observer))
        return nullptr;
    return std::make_unique<LearnedRange>(options, static_cast<std::size_t>(channels));
}

/// Throws InputError where the groups of a per_group scheme do not divide what they are made of.
void check_groups(std::string_view kind, const QuantizerOptions& options, std::string_view operand,
                  std::int64_t extent) {
    if (options.granularity == Granularity::per_group && extent % options.group_size != 0)
        throw InputError(
            fmt::format("quantize.{}.group_size: {} does not divide the {} values that a {} layer sums over", operand,
                        options.group_size, extent, kind));
}

}  // namespace

WeightedLayer::WeightedLayer(const WeightedShape& shape, ProductMakers makers, const QuantizeOptions& quantize,
                             std::int64_t max_batch)
    : shape_(shape),
      makers_(std::move(makers)),
      max_batch_(max_batch),
      execution_(quantize.execution),
      weight_quantizer_(quantize.weights),
      input_quantizer_(quantize.activations),
      gradient_quantizer_(quantize.gradients),
      narrow_weight_quantizer_(narrowing(quantize.weights)),
      narrow_input_quantizer_(narrowing(quantize.activations)),
      probe_quantizer_(probing(quantize.gradients)),
      weight_range_(learned_range(quantize.weights, channels())),
      input_range_(learned_range(quantize.activations, 1)),
      no_bias_(shape.bias ? 0 : static_cast<std::size_t>(channels())),
      factors_(static_cast<std::size_t>(channels())) {
    check_groups(shape.kind, quantize.weights, "weights", shape.weight.count() / channels());
    check_groups(shape.kind, quantize.activations, "activations", shape.input[shape.input.rank() - 1]);
    check_groups(shape.kind, quantize.gradients, "gradients", channels());
}

std::vector<ParameterSpec> WeightedLayer::parameters() const {
    std::vector<ParameterSpec> specs{{"weight", shape_.weight, shape_.fan_in}};
    if (shape_.bias)
        specs.push_back({"bias", Shape{channels()}, shape_.fan_in});
    if (weight_range_ != nullptr)
        specs.push_back({.name = "weight_range",
                         .shape = Shape{static_cast<std::int64_t>(weight_range_->parameters())},
                         .range = true});
    if (input_range_ != nullptr)
        specs.push_back({.name = "input_range",
                         .shape = Shape{static_cast<std::int64_t>(input_range_->parameters())},
                         .range = true});
    return specs;
}

Shape WeightedLayer::output_shape() const {
    return pool_ ? Shape{1, shape_.result[1] / 2, shape_.result[2] / 2, shape_.result[3]} : shape_.result;
}

bool WeightedLayer::absorb(Tail tail) {
    if (tail == Tail::relu && !relu_)
        return relu_ = true;
    const Shape& result = shape_.result;
    if (tail == Tail::max_pool && !pool_ && result.rank() == 4 && result[1] % 2 == 0 && result[2] % 2 == 0)
        return pool_ = true;
    return false;
}

void WeightedLayer::attach(std::size_t index, std::span<float> values, std::span<float> gradients) {
    const std::size_t products = weight_count() + (shape_.bias ? static_cast<std::size_t>(channels()) : 0);
    std::size_t count = products;
    for (LearnedRange* range : {weight_range_.get(), input_range_.get()})
        count += range == nullptr ? 0 : range->parameters();
    require(values.size() == count && gradients.size() == count, "{}: expected {} parameters, got {} and {} gradients",
            shape_.kind, count, values.size(), gradients.size());
    index_ = index;
    values_ = values.first(products);
    gradients_ = gradients.first(products);
    range_gradients_ = gradients.subspan(products);
    for (LearnedRange* range : {weight_range_.get(), input_range_.get()}) {
        if (range == nullptr)
            continue;
        const std::size_t end =
            values.size() - (range == weight_range_.get() && input_range_ ? input_range_->parameters() : 0);
        range->attach(values.subspan(end - range->parameters(), range->parameters()),
                      gradients.subspan(end - range->parameters(), range->parameters()));
    }
}

void WeightedLayer::reset() {
    for (Quantizer* quantizer : {&weight_quantizer_, &input_quantizer_, &gradient_quantizer_})
        quantizer->reset();
    for (LearnedRange* range : {weight_range_.get(), input_range_.get()})
        if (range != nullptr)
            range->reset();
    measured_ = {};
}

WeightedLayer::Widths WeightedLayer::widths(const Pass& pass) const {
    if (pass.plan == nullptr)
        return {};
    require(index_ < pass.plan->layers.size(), "the plan has {} layers, but layer {} asks it", pass.plan->layers.size(),
            index_);
    const LayerBits& planned = pass.plan->layers[index_];
    return {.weights = width_of(weight_quantizer_.options(), planned.forward),
            .inputs = width_of(input_quantizer_.options(), planned.forward),
            .gradients = width_of(gradient_quantizer_.options(), planned.backward)};
}

bool WeightedLayer::integer_forward() const {
    const Granularity inputs = input_quantizer_.options().granularity;
    return runs_integers() && has_codes(weight_quantizer_, widths_.weights) &&
           has_codes(input_quantizer_, widths_.inputs) && has_integer_weights() && inputs != Granularity::per_channel &&
           inputs != Granularity::per_group;
}

bool WeightedLayer::has_integer_weights() const {
    const QuantizerOptions& weights = weight_quantizer_.options();
    return weights.symmetry == Symmetry::symmetric && weights.granularity != Granularity::per_group;
}

bool WeightedLayer::integer_backward() const {
    const QuantizerOptions& gradients = gradient_quantizer_.options();
    const Granularity inputs = input_quantizer_.options().granularity;
    // A linear layer's dw sums over the batch, so the scales of its items must go out of the sum.
    const bool batch_sum = shape_.result.rank() == 2;
    // Operands that are not narrowed must have codes already.
    const bool kept = integer_forward() || (narrows_weights() && narrows_inputs());
    return runs_integers() && kept && has_codes(gradient_quantizer_, widths_.gradients) &&
           has_codes(weight_quantizer_, std::min(widths_.weights, widths_.gradients)) &&
           has_codes(input_quantizer_, std::min(widths_.inputs, widths_.gradients)) && has_integer_weights() &&
           gradients.symmetry == Symmetry::symmetric && gradients.granularity != Granularity::per_channel &&
           gradients.granularity != Granularity::per_group && inputs != Granularity::per_channel &&
           inputs != Granularity::per_group && !(batch_sum && inputs == Granularity::per_sample);
}

bool WeightedLayer::bfloat_forward() const {
    return is_bfloat(weight_quantizer_, widths_.weights) && is_bfloat(input_quantizer_, widths_.inputs);
}

bool WeightedLayer::bfloat_backward() const {
    return is_bfloat(weight_quantizer_, std::min(widths_.weights, widths_.gradients)) &&
           is_bfloat(input_quantizer_, std::min(widths_.inputs, widths_.gradients)) &&
           is_bfloat(gradient_quantizer_, widths_.gradients);
}

Product& WeightedLayer::float_product(bool bfloat_operands) {
    if (bfloat_operands && execution_ == Execution::integer && makers_.bfloat) {
        if (bfloat_ == nullptr)
            bfloat_ = makers_.bfloat();
        if (bfloat_ != nullptr)
            return *bfloat_;
        makers_.bfloat = {};
    }
    if (exact_ == nullptr)
        exact_ = makers_.exact();
    return *exact_;
}

IntegerProduct& WeightedLayer::integer_product() {
    if (integer_ == nullptr)
        integer_ = makers_.integer();
    return *integer_;
}

std::span<const float> WeightedLayer::parameters_of(const Pass& pass) {
    if (!pass.training || pass.noise.weights == nullptr)
        return values_;
    noisy_.resize(values_.size());
    const NoiseSite site{.weights = weight_count(),
                         .channels = factors_.size(),
                         .profile = pass.noise.profiles.empty() ? nullptr : &pass.noise.profiles[index_],
                         .strength = pass.noise.strength};
    pass.noise.weights->perturb(values_, site, noisy_,
                                pass.key.with(Purpose::weight_noise, static_cast<std::uint32_t>(index_)));
    return noisy_;
}

Tensor WeightedLayer::with_drop_in(Tensor x, const Pass& pass) const {
    Tensor noisy = in_place_of(x, pass);
    drop_in(x.values(), noisy.values(), pass.noise.profiles[index_], pass.noise.drop_in, pass.noise.strength,
            pass.key.with(Purpose::activation_noise, kDropInLane + static_cast<std::uint32_t>(index_)));
    return noisy;
}

/// Hands the learned ranges to the quantizers, and keeps what their gradients need.
void WeightedLayer::set_ranges(const Tensor& x, const Pass& pass) {
    if (learns_weights())
        weight_quantizer_.set_grid(
            weight_range_->grid(exact_weights_, weight_layout(), widths_.weights, pass.training));
    if (!learns_inputs())
        return;
    input_quantizer_.set_grid(input_range_->grid(x.values(), input_layout(), widths_.inputs, pass.training));
    if (pass.keep)
        exact_input_ = x.share();
}

bool WeightedLayer::learns_weights() const {
    return weight_range_ != nullptr && is_integer_width(weight_quantizer_.options(), widths_.weights);
}

bool WeightedLayer::learns_inputs() const {
    return input_range_ != nullptr && is_integer_width(input_quantizer_.options(), widths_.inputs);
}

QuantLayout WeightedLayer::weight_layout() const {
    QuantLayout layout = layout_of(shape_.weight, 1);
    layout.sums_rows = true;
    return layout;
}

QuantLayout WeightedLayer::input_layout() const {
    return layout_of(shape_.input, batch_);
}

/// A convolution hands its sums over after each item, a linear layer sums over the batch.
QuantLayout WeightedLayer::gradient_layout() const {
    QuantLayout layout = layout_of(output_shape(), batch_);
    layout.sums_samples = shape_.result.rank() == 2;
    return layout;
}

Buffer<std::uint8_t> WeightedLayer::plan_places(std::int64_t batch, const Pass& pass) const {
    if ((!pass.keep && pass.branches != Branches::record) || (!pool_ && !relu_))
        return {};
    return Buffer<std::uint8_t>(static_cast<std::size_t>(batch * output_shape().count()), pass.arena);
}

Tensor WeightedLayer::forward(Tensor x, const Pass& pass) {
    batch_ = x.shape()[0];
    require(batch_ <= max_batch_ && x.count() == batch_ * shape_.input.count(),
            "{}: expected up to {} items of {} values, got {} items with {} values in all", shape_.kind, max_batch_,
            shape_.input.count(), batch_, x.count());
    x_shape_ = x.shape();
    widths_ = widths(pass);
    if (pass.training && pass.noise.drop_in > 0)
        x = with_drop_in(std::move(x), pass);
    const std::span<const float> parameters = parameters_of(pass);
    exact_weights_ = parameters.first(weight_count());
    const std::span<const float> bias = shape_.bias ? parameters.subspan(weight_count()) : no_bias_;
    if (pass.operands != nullptr)
        (*pass.operands)({.layer = index_,
                          .weights = exact_weights_,
                          .weight_layout = weight_layout(),
                          .inputs = x.values(),
                          .input_layout = input_layout()});
    clipped_.release();
    exact_input_.release();
    set_ranges(x, pass);
    Tensor y = integer_forward() ? forward_integer(std::move(x), bias, pass) : forward_exact(std::move(x), bias, pass);
    if (pass.branches == Branches::record)
        held_.assign(places_.values().begin(), places_.values().end());
    return y;
}

Tensor WeightedLayer::forward_exact(Tensor x, std::span<const float> bias, const Pass& pass) {
    product_weights_ = exact_weights_;
    if (widths_.weights != kFullBits || widths_.inputs != kFullBits) {
        const auto lane = static_cast<std::uint32_t>(2 * index_);
        rounded_.resize(weight_count());
        weight_quantizer_.apply(exact_weights_, rounded_, weight_layout(), widths_.weights,
                                pass.key.with(Purpose::forward_rounding, lane), learns(pass));
        Tensor rounded(x.shape(), pass.arena);
        input_quantizer_.apply(x.values(), rounded.values(), input_layout(), widths_.inputs,
                               pass.key.with(Purpose::forward_rounding, lane + 1), learns(pass));
        keep_clipped(x, pass);
        x = std::move(rounded);
        product_weights_ = rounded_;
        keep_statistics(pass, rounded_);
    }
    Product& product = float_product(bfloat_forward());
    product.pack_forward(product_weights_);
    Tensor y(output_shape().with_batch(batch_), pass.arena);
    places_ = plan_places(batch_, pass);
    const std::int64_t result = shape_.result.count();
    const std::int64_t out = output_shape().count();
    Buffer<float> results(static_cast<std::size_t>(std::min(product.block(), batch_) * result), pass.arena);
    for (std::int64_t first = 0; first < batch_; first += product.block()) {
        const std::int64_t items = std::min(product.block(), batch_ - first);
        product.forward(items, part(std::as_const(x).values(), first, items, shape_.input.count()),
                        results.values().first(static_cast<std::size_t>(items * result)));
        const tail::Extent extent = extent_of(output_shape(), items, pool_, relu_);
        if (pass.branches == Branches::held && !held_.empty())
            tail::finish_held(extent, results.data(), bias.data(), held_.data() + first * out, y.data() + first * out);
        else
            tail::finish(extent, results.data(), bias.data(), y.data() + first * out,
                         places_.empty() ? nullptr : places_.data() + first * out);
    }
    results.release();
    if (pass.keep)
        keep_input(std::move(x), pass);
    return y;
}

Tensor WeightedLayer::forward_integer(Tensor x, std::span<const float> bias, const Pass& pass) {
    require(pass.branches != Branches::held, "{}: branches are held in fp32 only", shape_.kind);
    const auto lane = static_cast<std::uint32_t>(2 * index_);
    weights_.encode(weight_quantizer_, exact_weights_, weight_layout(), widths_.weights,
                    pass.key.with(Purpose::forward_rounding, lane), learns(pass));
    codes_.encode(input_quantizer_, x.values(), input_layout(), widths_.inputs,
                  pass.key.with(Purpose::forward_rounding, lane + 1), learns(pass), pass.arena);
    keep_clipped(x, pass);
    keep_statistics(pass, samples_weight_error(pass) ? decoded_weights() : std::span<const float>());
    x.release();

    IntegerProduct& product = integer_product();
    product.pack_forward(weights_.codes());
    Tensor y(output_shape().with_batch(batch_), pass.arena);
    places_ = plan_places(batch_, pass);
    const std::int64_t result = shape_.result.count();
    const std::int64_t out = output_shape().count();
    const bool one_scale = all_equal(codes_.scales);
    Buffer<std::int32_t> sums(static_cast<std::size_t>(std::min(product.block(), batch_) * result), pass.arena);
    for (std::int64_t first = 0; first < batch_; first += product.block()) {
        const std::int64_t items = std::min(product.block(), batch_ - first);
        product.forward(items, part(std::as_const(codes_.bytes).values(), first, items, shape_.input.count()),
                        part(std::span<const std::int32_t>(codes_.offsets), first, items, 1),
                        sums.values().first(static_cast<std::size_t>(items * result)));
        const std::int64_t step = one_scale ? items : 1;
        for (std::int64_t item = 0; item < items; item += step) {
            const float scale = codes_.scales[static_cast<std::size_t>(first + item)];
            for (std::size_t c = 0; c < factors_.size(); ++c)
                factors_[c] = scale * weights_.scales[c];
            const std::int64_t at = (first + item) * out;
            tail::finish(extent_of(output_shape(), step, pool_, relu_), sums.data() + item * result, factors_.data(),
                         bias.data(), y.data() + at, places_.empty() ? nullptr : places_.data() + at);
        }
    }
    sums.release();
    input_.release();
    if (!pass.keep)
        codes_.release();
    else if (integer_backward() && narrows_inputs())
        narrow_codes(pass);
    return y;
}

/// w~ as floats, where it is codes.
std::span<const float> WeightedLayer::decoded_weights() {
    rounded_.resize(weight_count());
    weights_.decode(rounded_);
    return rounded_;
}

bool WeightedLayer::samples_weight_error(const Pass& pass) const {
    return pass.training && (pass.measure || measured_.passes % kWeightErrorPeriod == 0);
}

void WeightedLayer::keep_clipped(const Tensor& x, const Pass& pass) {
    if (!pass.keep || input_quantizer_.clipped() == 0)
        return;
    clipped_ = Buffer<std::uint8_t>((x.values().size() + 7) / 8, pass.arena);
    input_quantizer_.mark_clipped(x.values(), clipped_.values());
}

void WeightedLayer::keep_statistics(const Pass& pass, std::span<const float> quantized_weights) {
    if (!pass.training)
        return;
    measured_.quantized += weight_count() + static_cast<std::size_t>(batch_ * shape_.input.count());
    measured_.clipped += weight_quantizer_.clipped() + input_quantizer_.clipped();
    if (samples_weight_error(pass))
        add(measured_.weights, quant_error(exact_weights_, quantized_weights));
    ++measured_.passes;
}

/// Keeps x~_b where the backward bits are fewer than the codes have.
void WeightedLayer::narrow_codes(const Pass& pass) {
    Tensor values(x_shape_, pass.arena);
    codes_.decode(values);
    keep_codes(values, pass);
}

void WeightedLayer::keep_input(Tensor x, const Pass& pass) {
    input_.release();
    codes_.release();
    if (integer_backward())
        keep_codes(x, pass);
    else
        input_ = std::move(x);
}

void WeightedLayer::keep_codes(const Tensor& x, const Pass& pass) {
    codes_.encode(narrow_input_quantizer_, x.values(), input_layout(), widths_.gradients, {}, true, pass.arena);
}

void WeightedLayer::report(LayerStatistics& statistics) const {
    const Measured& m = measured_;
    if (m.quantized > 0)
        statistics.saturation = static_cast<float>(static_cast<double>(m.clipped) / static_cast<double>(m.quantized));
    if (m.weights.signal > 0)
        statistics.forward_error = static_cast<float>(std::sqrt(m.weights.error / m.weights.signal));
    if (m.nonzero > 0)
        statistics.underflow = static_cast<float>(static_cast<double>(m.underflow) / static_cast<double>(m.nonzero));
    if (m.gradients.signal > 0)
        statistics.backward_error = static_cast<float>(std::sqrt(m.gradients.error / m.gradients.signal));
}

std::unique_ptr<Layer> make_linear(std::int64_t in, std::int64_t out, bool bias, const QuantizeOptions& quantize,
                                   const Backend& backend, std::int64_t max_batch) {
    const WeightedShape shape{
        .kind = "linear",
        .input = {1, in},
        .result = {1, out},
        .weight = {in, out},
        .geometry = {.in_height = 1, .in_width = 1, .in_channels = in, .out_channels = out, .kernel = 1},
        .fan_in = in,
        .macs = static_cast<double>(in * out),
        .bias = bias};
    ProductMakers makers{
        .exact = [=, &backend] { return backend.linear(in, out, max_batch); }, .bfloat = {}, .integer = {}};
    if (fits_integers(in, out))
        makers.integer = [=, &backend] { return backend.integer_linear(in, out, max_batch); };
    return std::make_unique<WeightedLayer>(shape, makers, quantize, max_batch);
}

std::unique_ptr<Layer> make_conv2d(const ConvGeometry& g, bool bias, const QuantizeOptions& quantize,
                                   const Backend& backend, std::int64_t max_batch) {
    g.check();
    const Shape result{1, g.out_height(), g.out_width(), g.out_channels};
    const WeightedShape shape{.kind = "conv2d",
                              .input = {1, g.in_height, g.in_width, g.in_channels},
                              .result = result,
                              .weight = {g.kernel, g.kernel, g.in_channels / g.groups, g.out_channels},
                              .geometry = g,
                              .fan_in = g.fan_in(),
                              .macs = static_cast<double>(result.count() * g.fan_in()),
                              .bias = bias};
    ProductMakers makers{.exact = [=, &backend] { return backend.convolution(g, max_batch); },
                         .bfloat = [=, &backend] { return backend.bfloat_convolution(g, max_batch); },
                         .integer = {}};
    if (fits_integers(g))
        makers.integer = [=, &backend] { return backend.integer_convolution(g, max_batch); };
    return std::make_unique<WeightedLayer>(shape, makers, quantize, max_batch);
}

}  // namespace dither
