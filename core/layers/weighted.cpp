#include "core/layers/weighted.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/layers/detail/tail.hpp"
#include "core/layers/detail/weight_sums.hpp"
#include "core/layers/detail/weighted_kernels.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace dither {
namespace {

constexpr int kCodeBits = 8;                      // the widest codes that integer products take
constexpr int kProbeBits = 4;                     // the width whose error decides whether gradients may go that low
constexpr std::uint32_t kProbeLane = 1U << 16;    // the probe's rounding is independent of the gradient's own
constexpr std::uint64_t kWeightErrorPeriod = 16;  // passes between samples of the weights' error: it moves slowly

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

/// The item's last extent is its channels; `samples` groups of rows.
QuantLayout layout_of(const Shape& item, std::int64_t samples) {
    const std::int64_t columns = item[item.rank() - 1];
    return {.rows = static_cast<std::size_t>(samples * item.count() / columns),
            .columns = static_cast<std::size_t>(columns),
            .samples = static_cast<std::size_t>(samples)};
}

/// `items` results of a product as the tail sees them.
tail::Extent extent_of(const Shape& output, std::int64_t items, bool pool, bool relu) {
    const int rank = output.rank();
    const std::int64_t width = rank == 4 ? output[2] : 1;
    const std::int64_t height = rank == 4 ? output[1] : 1;
    return {.rows = items * height, .width = width, .channels = output[rank - 1], .pool = pool, .relu = relu};
}

template <typename T>
std::span<T> part(std::span<T> values, std::int64_t first, std::int64_t items, std::int64_t item) {
    return values.subspan(static_cast<std::size_t>(first * item), static_cast<std::size_t>(items * item));
}

std::span<const std::int8_t> signed_view(std::span<const std::uint8_t> codes) {
    return {reinterpret_cast<const std::int8_t*>(codes.data()), codes.size()};
}

/// Scales and offsets of each item: those of its own, or the tensor's.
void spread_grid(const Quantizer& quantizer, std::int64_t items, std::vector<float>& scales,
                 std::vector<std::int32_t>& offsets) {
    scales.resize(static_cast<std::size_t>(items));
    offsets.resize(static_cast<std::size_t>(items));
    for (std::size_t i = 0; i < scales.size(); ++i) {
        const std::size_t group = quantizer.scales().size() == 1 ? 0 : i;
        scales[i] = quantizer.scales()[group].scale;
        offsets[i] = quantizer.offset(group);
    }
}

/// Whether values of so many bits are codes that integer products take.
bool has_codes(const Quantizer& quantizer, int bits) {
    return bits <= kCodeBits && !float_format(quantizer.options(), bits);
}

bool all_equal(std::span<const float> values) {
    return std::ranges::adjacent_find(values, std::not_equal_to<>()) == values.end();
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
      probe_quantizer_(kProbeOptions),
      no_bias_(shape.bias ? 0 : static_cast<std::size_t>(channels())),
      factors_(static_cast<std::size_t>(channels())) {}

std::vector<ParameterSpec> WeightedLayer::parameters() const {
    std::vector<ParameterSpec> specs{{"weight", shape_.weight, shape_.fan_in}};
    if (shape_.bias)
        specs.push_back({"bias", Shape{channels()}, shape_.fan_in});
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
    const std::size_t count = weight_count() + (shape_.bias ? static_cast<std::size_t>(channels()) : 0);
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

LayerBits WeightedLayer::bits(const Pass& pass) const {
    if (pass.plan == nullptr)
        return {};
    require(index_ < pass.plan->layers.size(), "the plan has {} layers, but layer {} asks it", pass.plan->layers.size(),
            index_);
    return pass.plan->layers[index_];
}

bool WeightedLayer::integer_forward() const {
    return execution_ == Execution::integer && has_codes(weight_quantizer_, bits_.forward) &&
           has_codes(input_quantizer_, bits_.forward) && weight_quantizer_.options().symmetry == Symmetry::symmetric &&
           input_quantizer_.options().granularity != Granularity::per_channel;
}

bool WeightedLayer::integer_backward() const {
    const QuantizerOptions& gradients = gradient_quantizer_.options();
    // A linear layer's dw sums over the batch, so the scales of its items must go out of the sum.
    const bool batch_sum = shape_.result.rank() == 2;
    const int kept = std::min(bits_.forward, bits_.backward);  // of weights and inputs
    return execution_ == Execution::integer && has_codes(gradient_quantizer_, bits_.backward) &&
           has_codes(weight_quantizer_, kept) && has_codes(input_quantizer_, kept) &&
           weight_quantizer_.options().symmetry == Symmetry::symmetric && gradients.symmetry == Symmetry::symmetric &&
           gradients.granularity != Granularity::per_channel &&
           input_quantizer_.options().granularity != Granularity::per_channel &&
           !(batch_sum && input_quantizer_.options().granularity == Granularity::per_sample);
}

Product& WeightedLayer::exact_product() {
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
    if (!pass.training || pass.noise == nullptr)
        return values_;
    noisy_.resize(values_.size());
    pass.noise->perturb(values_, noisy_, pass.key.with(Purpose::weight_noise, static_cast<std::uint32_t>(index_)));
    return noisy_;
}

Buffer<std::uint8_t> WeightedLayer::plan_places(std::int64_t batch, const Pass& pass) const {
    if (!pass.keep || (!pool_ && !relu_))
        return {};
    return Buffer<std::uint8_t>(static_cast<std::size_t>(batch * output_shape().count()), pass.arena);
}

Tensor WeightedLayer::forward(Tensor x, const Pass& pass) {
    batch_ = x.shape()[0];
    require(batch_ <= max_batch_ && x.count() == batch_ * shape_.input.count(),
            "{}: expected up to {} items of {} values, got {} items with {} values in all", shape_.kind, max_batch_,
            shape_.input.count(), batch_, x.count());
    x_shape_ = x.shape();
    bits_ = bits(pass);
    const std::span<const float> parameters = parameters_of(pass);
    exact_weights_ = parameters.first(weight_count());
    const std::span<const float> bias = shape_.bias ? parameters.subspan(weight_count()) : no_bias_;
    clipped_.release();
    Tensor y = integer_forward() ? forward_integer(std::move(x), bias, pass) : forward_exact(std::move(x), bias, pass);
    if (pass.branches == Branches::record)
        held_.assign(places_.values().begin(), places_.values().end());
    return y;
}

Tensor WeightedLayer::forward_exact(Tensor x, std::span<const float> bias, const Pass& pass) {
    weights_.values = exact_weights_;
    if (bits_.forward != kFullBits) {
        const auto lane = static_cast<std::uint32_t>(2 * index_);
        rounded_.resize(weight_count());
        weight_quantizer_.apply(exact_weights_, rounded_, layout_of(shape_.weight, 1), bits_.forward,
                                pass.key.with(Purpose::forward_rounding, lane), pass.training);
        Tensor rounded(x.shape(), pass.arena);
        input_quantizer_.apply(x.values(), rounded.values(), layout_of(shape_.input, batch_), bits_.forward,
                               pass.key.with(Purpose::forward_rounding, lane + 1), pass.training);
        keep_clipped(x, pass);
        x = std::move(rounded);
        weights_.values = rounded_;
        keep_statistics(pass, rounded_);
    }
    Product& product = exact_product();
    product.pack_forward(weights_.values);
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
    const auto lane = static_cast<std::uint32_t>(2 * index_);
    encode_weights(weight_quantizer_, exact_weights_, bits_.forward, pass.key.with(Purpose::forward_rounding, lane),
                   pass.training, weights_);
    encode_input(input_quantizer_, x.values(), bits_.forward, pass.key.with(Purpose::forward_rounding, lane + 1),
                 pass.training, pass, codes_);
    keep_clipped(x, pass);
    if (pass.training && (pass.measure || measured_.passes % kWeightErrorPeriod == 0)) {
        rounded_.resize(weight_count());
        kernels::decode_channels(weights_.codes.data(), weights_.scales.data(), weight_count(), channels(),
                                 rounded_.data());
    }
    keep_statistics(pass, rounded_);
    x.release();

    IntegerProduct& product = integer_product();
    product.pack_forward(signed_view(weights_.codes.values()));
    Tensor y(output_shape().with_batch(batch_), pass.arena);
    places_ = plan_places(batch_, pass);
    const std::int64_t result = shape_.result.count();
    const std::int64_t out = output_shape().count();
    const bool one_scale = all_equal(codes_.scales);
    Buffer<std::int32_t> sums(static_cast<std::size_t>(std::min(product.block(), batch_) * result), pass.arena);
    for (std::int64_t first = 0; first < batch_; first += product.block()) {
        const std::int64_t items = std::min(product.block(), batch_ - first);
        product.forward(items, part(std::as_const(codes_.values).values(), first, items, shape_.input.count()),
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
        codes_.values.release();
    else if (integer_backward() && bits_.backward < bits_.forward)
        narrow_codes(bits_.backward);
    return y;
}

void WeightedLayer::encode_weights(Quantizer& quantizer, std::span<const float> values, int bits, const StreamKey& key,
                                   bool update_range, Weights& weights) {
    if (weights.codes.empty())
        weights.codes = Buffer<std::uint8_t>(weight_count());
    quantizer.encode(values, weights.codes.values(), layout_of(shape_.weight, 1), bits, key, true, update_range);
    weights.scales.resize(static_cast<std::size_t>(channels()));
    for (std::size_t c = 0; c < weights.scales.size(); ++c)
        weights.scales[c] = quantizer.scales()[quantizer.scales().size() == 1 ? 0 : c].scale;
}

void WeightedLayer::encode_input(Quantizer& quantizer, std::span<const float> x, int bits, const StreamKey& key,
                                 bool update_range, const Pass& pass, Codes& codes) {
    codes.values.release();
    codes.values = Buffer<std::uint8_t>(x.size(), pass.arena);
    quantizer.encode(x, codes.values.values(), layout_of(shape_.input, batch_), bits, key, false, update_range);
    spread_grid(quantizer, batch_, codes.scales, codes.offsets);
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
    if (pass.measure || measured_.passes % kWeightErrorPeriod == 0)
        add(measured_.weights, quant_error(exact_weights_, quantized_weights));
    ++measured_.passes;
}

void WeightedLayer::keep_input(Tensor x, const Pass& pass) {
    input_.release();
    codes_.values.release();
    if (!integer_backward()) {
        input_ = std::move(x);
        return;
    }
    encode_input(narrow_input_quantizer_, x.values(), bits_.backward, {}, true, pass, codes_);
}

/// Codes of fewer bits, for the same values: a table of all codes, since there are at most 256.
void WeightedLayer::narrow_codes(int bits) {
    const std::int64_t item = shape_.input.count();
    const bool one_grid = input_quantizer_.scales().size() == 1;
    const std::int64_t step = one_grid ? batch_ : 1;
    const Symmetry symmetry = input_quantizer_.options().symmetry;
    for (std::int64_t first = 0; first < batch_; first += step) {
        const auto i = static_cast<std::size_t>(first);
        const std::span<std::uint8_t> codes = part(codes_.values.values(), first, step, item);
        const kernels::CodeExtremes range = kernels::code_extremes(codes.data(), codes.size());
        const auto value = [&](int code) { return codes_.scales[i] * static_cast<float>(code - codes_.offsets[i]); };
        const ScaleZero grid = choose_scale(value(range.low), value(range.high), bits, symmetry);
        const std::int32_t offset = symmetry == Symmetry::symmetric ? 1 << (bits - 1) : grid.zero_point;
        const int lowest = symmetry == Symmetry::symmetric ? 1 : 0;
        std::array<std::uint8_t, 256> table{};
        for (int code = range.low; code <= range.high; ++code) {
            const int narrow = static_cast<int>(std::nearbyint(value(code) / grid.scale)) + offset;
            table[static_cast<std::size_t>(code)] =
                static_cast<std::uint8_t>(std::clamp(narrow, lowest, (1 << bits) - 1));
        }
        for (std::uint8_t& code : codes)
            code = table[code];
        for (std::size_t k = i; k < i + static_cast<std::size_t>(step); ++k) {
            codes_.scales[k] = grid.scale;
            codes_.offsets[k] = offset;
        }
    }
}

Tensor WeightedLayer::backward(Tensor dy, const Pass& pass, bool wanted) {
    require(dy.count() == batch_ * output_shape().count(), "{}: expected {} gradients, got {}", shape_.kind,
            batch_ * output_shape().count(), dy.count());
    if (relu_) {
        Tensor stopped = in_place_of(dy, pass);
        const std::uint8_t* places = pass.branches == Branches::held ? held_.data() : places_.data();
        tail::stop_dead(places, dy.data(), stopped.data(), dy.count());
        dy = std::move(stopped);
    }
    if (pass.measure)
        measure_gradient(dy, pass);
    Tensor dx = integer_backward() ? backward_integer(std::move(dy), pass, wanted)
                                   : backward_exact(std::move(dy), pass, wanted);
    mask_weight_gradient();
    if (wanted && !clipped_.empty())
        stop_marked(clipped_.values(), dx.values());
    input_.release();
    codes_.values.release();
    places_.release();
    clipped_.release();
    return dx;
}

Tensor WeightedLayer::backward_exact(Tensor dy, const Pass& pass, bool wanted) {
    const std::span<const float> weights = backward_weights();
    const Tensor x = backward_input_values(pass);
    if (bits_.backward != kFullBits)
        dy = rounded_gradient(std::move(dy), pass);
    Product& product = exact_product();
    const std::int64_t result = shape_.result.count();
    const std::int64_t in = shape_.input.count();
    const std::int64_t out = output_shape().count();
    const std::uint8_t* places = pass.branches == Branches::held ? held_.data() : places_.data();
    if (shape_.bias)
        kernels::column_sums(dy.data(), static_cast<std::size_t>(dy.count() / channels()), factors_.size(),
                             gradients_.subspan(weight_count()).data());
    std::ranges::fill(weight_gradient(), 0.0F);
    Tensor dx = wanted ? Tensor(x_shape_, pass.arena) : Tensor();
    if (wanted)
        product.pack_backward(weights);
    Buffer<float> spread;
    if (pool_)
        spread = Buffer<float>(static_cast<std::size_t>(std::min(product.block(), batch_) * result), pass.arena);
    for (std::int64_t first = 0; first < batch_; first += product.block()) {
        const std::int64_t items = std::min(product.block(), batch_ - first);
        std::span<const float> g = part(std::as_const(dy).values(), first, items, out);
        if (pool_) {
            tail::spread(extent_of(output_shape(), items, pool_, relu_), places + first * out, g.data(), spread.data());
            g = spread.values().first(static_cast<std::size_t>(items * result));
        }
        product.add_weight_gradient(items, part(x.values(), first, items, in), g, weight_gradient());
        if (wanted)
            product.backward_input(items, g, part(dx.values(), first, items, in));
    }
    return dx;
}

/// w~_b as floats.
std::span<const float> WeightedLayer::backward_weights() {
    if (bits_.forward == kFullBits && bits_.backward == kFullBits)
        return exact_weights_;
    const QuantLayout layout = layout_of(shape_.weight, 1);
    if (integer_forward()) {
        rounded_.resize(weight_count());
        kernels::decode_channels(weights_.codes.data(), weights_.scales.data(), weight_count(), channels(),
                                 rounded_.data());
        weights_.values = rounded_;
    }
    if (bits_.backward < bits_.forward) {
        const std::span<const float> values = weights_.values;
        rounded_.resize(weight_count());
        narrow_weight_quantizer_.apply(values, rounded_, layout, bits_.backward, {});
        weights_.values = rounded_;
    }
    return weights_.values;
}

/// x~_b as floats.
Tensor WeightedLayer::backward_input_values(const Pass& pass) {
    Tensor x = input_.share();
    if (x.empty()) {
        x = Tensor(x_shape_, pass.arena);
        const std::int64_t item = shape_.input.count();
        for (std::int64_t i = 0; i < batch_; ++i)
            kernels::decode(codes_.values.data() + i * item, codes_.scales[static_cast<std::size_t>(i)],
                            codes_.offsets[static_cast<std::size_t>(i)], static_cast<std::size_t>(item),
                            x.data() + i * item);
    }
    if (bits_.backward >= bits_.forward)
        return x;
    Tensor narrow(x.shape(), pass.arena);
    narrow_input_quantizer_.apply(x.values(), narrow.values(), layout_of(shape_.input, batch_), bits_.backward, {});
    return narrow;
}

/// The scales of w~_b, one for each output channel; empty where one scale serves all.
std::span<const float> WeightedLayer::gradient_units() {
    const Quantizer& quantizer = bits_.backward < bits_.forward ? narrow_weight_quantizer_ : weight_quantizer_;
    if (quantizer.scales().size() == 1)
        return {};
    units_.resize(quantizer.scales().size());
    std::ranges::transform(quantizer.scales(), units_.begin(), &ScaleZero::scale);
    return units_;
}

/// g~ as floats.
Tensor WeightedLayer::rounded_gradient(Tensor dy, const Pass& pass) {
    const std::span<const float> units = gradient_units();
    const std::size_t rows = dy.values().size() / factors_.size();
    Tensor g = in_place_of(dy, pass);
    if (units.empty())
        std::ranges::copy(dy.values(), g.data());
    else
        kernels::multiply_columns(dy.data(), units.data(), rows, units.size(), g.data());
    gradient_quantizer_.apply(g.values(), g.values(), layout_of(output_shape(), batch_), bits_.backward,
                              pass.key.with(Purpose::gradient_rounding, static_cast<std::uint32_t>(index_)),
                              pass.training);
    if (!units.empty())
        kernels::divide_columns(g.data(), units.data(), rows, units.size(), g.data());
    return g;
}

/// w~_b as codes.
const WeightedLayer::Weights& WeightedLayer::backward_weight_codes() {
    if (bits_.backward >= bits_.forward)
        return weights_;
    std::span<const float> values = weights_.values;
    if (integer_forward()) {
        rounded_.resize(weight_count());
        kernels::decode_channels(weights_.codes.data(), weights_.scales.data(), weight_count(), channels(),
                                 rounded_.data());
        values = rounded_;
    }
    encode_weights(narrow_weight_quantizer_, values, bits_.backward, {}, true, narrow_weights_);
    return narrow_weights_;
}

WeightedLayer::GradientCodes WeightedLayer::encode_gradient(Tensor dy, std::span<const float> units, const Pass& pass) {
    if (!units.empty()) {
        Tensor g = in_place_of(dy, pass);
        kernels::multiply_columns(dy.data(), units.data(), dy.values().size() / units.size(), units.size(), g.data());
        dy = std::move(g);
    }
    GradientCodes codes{.values = Buffer<std::uint8_t>(dy.values().size(), pass.arena), .scales = {}};
    gradient_quantizer_.encode(dy.values(), codes.values.values(), layout_of(output_shape(), batch_), bits_.backward,
                               pass.key.with(Purpose::gradient_rounding, static_cast<std::uint32_t>(index_)), true,
                               pass.training);
    gradient_scales_.resize(static_cast<std::size_t>(batch_));
    for (std::size_t i = 0; i < gradient_scales_.size(); ++i)
        gradient_scales_[i] = gradient_quantizer_.scales()[gradient_quantizer_.scales().size() == 1 ? 0 : i].scale;
    codes.scales = gradient_scales_;
    return codes;
}

void WeightedLayer::sum_bias_gradient(const GradientCodes& g, std::span<const float> units, const Pass& pass) {
    const std::span<float> db = gradients_.subspan(weight_count());
    std::ranges::fill(db, 0.0F);
    const std::int64_t item = output_shape().count();
    const std::int64_t step = all_equal(g.scales) ? batch_ : 1;
    Buffer<std::int32_t> sums(db.size(), pass.arena);
    for (std::int64_t first = 0; first < batch_; first += step) {
        kernels::column_sums(signed_view(g.values.values()).data() + first * item,
                             static_cast<std::size_t>(step * item) / db.size(), db.size(), sums.data());
        const float scale = g.scales[static_cast<std::size_t>(first)];
        for (std::size_t c = 0; c < db.size(); ++c)
            db[c] += static_cast<float>(sums.data()[c]) * (units.empty() ? scale : scale / units[c]);
    }
}

/// The exponents of the items' gradient scales above the smallest one, which is returned.
float WeightedLayer::align_items(std::span<const float> scales) {
    const float smallest = *std::ranges::min_element(scales);
    shifts_.resize(scales.size());
    for (std::size_t i = 0; i < scales.size(); ++i)
        shifts_[i] = static_cast<std::uint8_t>(std::ilogb(scales[i] / smallest));
    return smallest;
}

Tensor WeightedLayer::backward_integer(Tensor dy, const Pass& pass, bool wanted) {
    const Weights& weights = backward_weight_codes();
    const std::span<const float> units = gradient_units();
    const GradientCodes g = encode_gradient(std::move(dy), units, pass);
    if (shape_.bias)
        sum_bias_gradient(g, units, pass);
    IntegerProduct& product = integer_product();
    if (wanted)
        product.pack_backward(signed_view(weights.codes.values()));

    // Items with scales of their own: a convolution hands its sums over after each, a linear layer shifts the codes.
    const bool one_scale = all_equal(g.scales) && all_equal(codes_.scales);
    const bool shifted = !one_scale && shape_.result.rank() == 2;
    const bool item_wise = !one_scale && !shifted;
    const float unit = (shifted ? align_items(g.scales) : g.scales[0]) * codes_.scales[0];
    const std::int64_t block = item_wise ? 1 : product.block();
    const std::int64_t most = std::min(block, batch_);
    const std::int64_t in = shape_.input.count();
    WeightSums sums(weight_gradient(), units, factors_, pass.arena);
    Buffer<std::int8_t> spread(static_cast<std::size_t>(pool_ ? most * shape_.result.count() : 0), pass.arena);
    Buffer<std::int32_t> dx_sums(static_cast<std::size_t>(wanted ? most * in : 0), pass.arena);
    Tensor dx = wanted ? Tensor(x_shape_, pass.arena) : Tensor();
    for (std::int64_t first = 0; first < batch_; first += block) {
        const std::int64_t items = std::min(block, batch_ - first);
        const std::span<const std::int8_t> codes = result_gradient(g, first, items, spread);
        if (sums.items() + items > product.sum_items())
            sums.hand_over(unit);
        product.add_weight_gradient(
            items, part(std::as_const(codes_.values).values(), first, items, in),
            part(std::span<const std::int32_t>(codes_.offsets), first, items, 1), codes,
            shifted ? part(std::span<const std::uint8_t>(shifts_), first, items, 1) : std::span<const std::uint8_t>(),
            sums.add(items));
        if (item_wise)
            sums.hand_over(g.scales[static_cast<std::size_t>(first)] * codes_.scales[static_cast<std::size_t>(first)]);
        if (!wanted)
            continue;
        product.backward_input(items, codes, dx_sums.values().first(static_cast<std::size_t>(items * in)));
        for (std::int64_t i = 0; i < items; ++i) {
            const float scale = g.scales[static_cast<std::size_t>(first + i)];
            kernels::scale_sums(dx_sums.data() + i * in, units.empty() ? scale * weights.scales[0] : scale,
                                static_cast<std::size_t>(in), dx.data() + (first + i) * in);
        }
    }
    sums.hand_over(unit);
    return dx;
}

/// The codes of the product's results: those of the output, at their places before the pool.
std::span<const std::int8_t> WeightedLayer::result_gradient(const GradientCodes& g, std::int64_t first,
                                                            std::int64_t items, Buffer<std::int8_t>& spread) const {
    const std::int64_t out = output_shape().count();
    const std::span<const std::int8_t> codes = part(signed_view(g.values.values()), first, items, out);
    if (!pool_)
        return codes;
    tail::spread(extent_of(output_shape(), items, pool_, relu_), places_.data() + first * out, codes.data(),
                 spread.data());
    return std::as_const(spread).values().first(static_cast<std::size_t>(items * shape_.result.count()));
}

void WeightedLayer::measure_gradient(const Tensor& dy, const Pass& pass) {
    const auto lane = kProbeLane + static_cast<std::uint32_t>(index_);
    Tensor rounded(dy.shape(), pass.arena);
    probe_quantizer_.apply(dy.values(), rounded.values(), layout_of(output_shape(), batch_), kProbeBits,
                           pass.key.with(Purpose::gradient_rounding, lane));
    add(measured_.gradients, quant_error(dy.values(), rounded.values()));
}

void WeightedLayer::mask_weight_gradient() const {
    if (bits_.forward != kFullBits && weight_quantizer_.clipped() > 0)
        weight_quantizer_.mask_gradient(exact_weights_, weight_gradient(), layout_of(shape_.weight, 1));
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

std::unique_ptr<Layer> make_linear(std::int64_t in, std::int64_t out, bool bias, const QuantizeOptions& quantize,
                                   const Backend& backend, std::int64_t max_batch) {
    const WeightedShape shape{.kind = "linear",
                              .input = {1, in},
                              .result = {1, out},
                              .weight = {in, out},
                              .fan_in = in,
                              .macs = static_cast<double>(in * out),
                              .bias = bias};
    const ProductMakers makers{[=, &backend] { return backend.linear(in, out, max_batch); },
                               [=, &backend] { return backend.integer_linear(in, out, max_batch); }};
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
                              .fan_in = g.fan_in(),
                              .macs = static_cast<double>(result.count() * g.fan_in()),
                              .bias = bias};
    const ProductMakers makers{[=, &backend] { return backend.convolution(g, max_batch); },
                               [=, &backend] { return backend.integer_convolution(g, max_batch); }};
    return std::make_unique<WeightedLayer>(shape, makers, quantize, max_batch);
}

}  // namespace dither
