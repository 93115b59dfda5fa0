#include "core/layers/weighted.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/layers/detail/tail.hpp"
#include "core/layers/detail/weight_sums.hpp"
#include "core/layers/detail/weighted_kernels.hpp"
#include "core/layers/detail/weighted_layer.hpp"

#include <algorithm>
#include <cmath>

namespace dither {
namespace {

constexpr int kCodeBits = 8;                      // the widest codes that integer products take
constexpr int kProbeBits = 4;                     // the width whose error decides whether gradients may go that low
constexpr std::uint32_t kProbeLane = 1U << 16;    // the probe's rounding is independent of the gradient's own
constexpr std::int64_t kMostBiasRows = 1 << 24;   // codes of 7 bits and a sign that 32 bits can hold the sum of
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
    return runs_integers() && has_codes(weight_quantizer_, bits_.forward) &&
           has_codes(input_quantizer_, bits_.forward) && weight_quantizer_.options().symmetry == Symmetry::symmetric &&
           input_quantizer_.options().granularity != Granularity::per_channel;
}

bool WeightedLayer::integer_backward() const {
    const QuantizerOptions& gradients = gradient_quantizer_.options();
    // A linear layer's dw sums over the batch, so the scales of its items must go out of the sum.
    const bool batch_sum = shape_.result.rank() == 2;
    const int kept = std::min(bits_.forward, bits_.backward);  // of weights and inputs
    return runs_integers() && has_codes(gradient_quantizer_, bits_.backward) && has_codes(weight_quantizer_, kept) &&
           has_codes(input_quantizer_, kept) && weight_quantizer_.options().symmetry == Symmetry::symmetric &&
           gradients.symmetry == Symmetry::symmetric && gradients.granularity != Granularity::per_channel &&
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
    product_weights_ = exact_weights_;
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
        product_weights_ = rounded_;
        keep_statistics(pass, rounded_);
    }
    Product& product = exact_product();
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
    weights_.encode(weight_quantizer_, exact_weights_, layout_of(shape_.weight, 1), bits_.forward,
                    pass.key.with(Purpose::forward_rounding, lane), pass.training);
    codes_.encode(input_quantizer_, x.values(), layout_of(shape_.input, batch_), bits_.forward,
                  pass.key.with(Purpose::forward_rounding, lane + 1), pass.training, pass.arena);
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
    else if (integer_backward() && bits_.backward < bits_.forward)
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
    codes_.encode(narrow_input_quantizer_, x.values(), layout_of(shape_.input, batch_), bits_.backward, {}, true,
                  pass.arena);
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
    codes_.release();
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
    if (integer_forward())
        product_weights_ = decoded_weights();
    if (bits_.backward < bits_.forward) {
        const std::span<const float> values = product_weights_;
        rounded_.resize(weight_count());
        narrow_weight_quantizer_.apply(values, rounded_, layout, bits_.backward, {});
        product_weights_ = rounded_;
    }
    return product_weights_;
}

/// x~_b as floats.
Tensor WeightedLayer::backward_input_values(const Pass& pass) {
    Tensor x = input_.share();
    if (x.empty()) {
        x = Tensor(x_shape_, pass.arena);
        codes_.decode(x);
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

/// dy s, in place where nobody else sees dy.
Tensor WeightedLayer::in_units(Tensor dy, std::span<const float> units, const Pass& pass) const {
    if (units.empty())
        return dy;
    Tensor g = in_place_of(dy, pass);
    kernels::multiply_columns(dy.data(), units.data(), dy.values().size() / units.size(), units.size(), g.data());
    dy.release();
    return g;
}

/// g~ as floats.
Tensor WeightedLayer::rounded_gradient(Tensor dy, const Pass& pass) {
    const std::span<const float> units = gradient_units();
    Tensor g = in_units(std::move(dy), units, pass);
    if (!g.unique()) {
        Tensor own(g.shape(), pass.arena);
        std::ranges::copy(g.values(), own.data());
        g = std::move(own);
    }
    gradient_quantizer_.apply(g.values(), g.values(), layout_of(output_shape(), batch_), bits_.backward,
                              pass.key.with(Purpose::gradient_rounding, static_cast<std::uint32_t>(index_)),
                              pass.training);
    if (!units.empty())
        kernels::divide_columns(g.data(), units.data(), g.values().size() / units.size(), units.size(), g.data());
    return g;
}

/// w~_b as codes.
const WeightCodes& WeightedLayer::backward_weight_codes() {
    if (bits_.backward >= bits_.forward)
        return weights_;
    std::span<const float> values = product_weights_;
    if (integer_forward())
        values = decoded_weights();
    narrow_weights_.encode(narrow_weight_quantizer_, values, layout_of(shape_.weight, 1), bits_.backward, {}, true);
    return narrow_weights_;
}

void WeightedLayer::encode_gradient(Tensor dy, std::span<const float> units, const Pass& pass) {
    const Tensor g = in_units(std::move(dy), units, pass);
    gradient_.encode(gradient_quantizer_, g.values(), layout_of(output_shape(), batch_), bits_.backward,
                     pass.key.with(Purpose::gradient_rounding, static_cast<std::uint32_t>(index_)), pass.training,
                     pass.arena);
}

void WeightedLayer::sum_bias_gradient(std::span<const float> units, const Pass& pass) {
    const std::span<float> db = gradients_.subspan(weight_count());
    std::ranges::fill(db, 0.0F);
    const std::int64_t item = output_shape().count();
    const std::int64_t most = std::max<std::int64_t>(kMostBiasRows * static_cast<std::int64_t>(db.size()) / item, 1);
    const std::int64_t step = all_equal(gradient_.scales) ? std::min(batch_, most) : 1;
    Buffer<std::int32_t> sums(db.size(), pass.arena);
    for (std::int64_t first = 0; first < batch_; first += step) {
        kernels::column_sums(gradient_.codes().data() + first * item, static_cast<std::size_t>(step * item) / db.size(),
                             db.size(), sums.data());
        const float scale = gradient_.scales[static_cast<std::size_t>(first)];
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
    const WeightCodes& weights = backward_weight_codes();
    const std::span<const float> units = gradient_units();
    encode_gradient(std::move(dy), units, pass);
    if (shape_.bias)
        sum_bias_gradient(units, pass);
    sum_weight_gradient(units, pass);
    codes_.release();  // before dx is there: the least memory at once
    Tensor dx = wanted ? input_gradient(weights, units, pass) : Tensor();
    gradient_.bytes.release();
    return dx;
}

void WeightedLayer::sum_weight_gradient(std::span<const float> units, const Pass& pass) {
    // Items with scales of their own: a convolution hands its sums over after each, a linear layer shifts the codes.
    const bool one_scale = all_equal(gradient_.scales) && all_equal(codes_.scales);
    const bool shifted = !one_scale && shape_.result.rank() == 2;
    const bool item_wise = !one_scale && !shifted;
    const float unit = (shifted ? align_items(gradient_.scales) : gradient_.scales[0]) * codes_.scales[0];
    IntegerProduct& product = integer_product();
    const std::int64_t block = item_wise ? 1 : std::min(product.block(), product.sum_items());
    Buffer<std::int8_t> room = spread_room(block, pass);
    WeightSums sums(weight_gradient(), units, factors_, pass.arena);
    for (std::int64_t first = 0; first < batch_; first += block) {
        const std::int64_t items = std::min(block, batch_ - first);
        if (sums.items() + items > product.sum_items())
            sums.hand_over(unit);
        const auto shifts =
            shifted ? part(std::span<const std::uint8_t>(shifts_), first, items, 1) : std::span<const std::uint8_t>();
        sums.take(items, [&](std::span<std::int32_t> dw, bool add) {
            product.weight_gradient(items,
                                    part(std::as_const(codes_.bytes).values(), first, items, shape_.input.count()),
                                    part(std::span<const std::int32_t>(codes_.offsets), first, items, 1),
                                    result_gradient(first, items, room), shifts, dw, add);
        });
        const auto i = static_cast<std::size_t>(first);
        if (item_wise)
            sums.hand_over(gradient_.scales[i] * codes_.scales[i]);
    }
    sums.hand_over(unit);
}

Tensor WeightedLayer::input_gradient(const WeightCodes& weights, std::span<const float> units, const Pass& pass) {
    IntegerProduct& product = integer_product();
    product.pack_backward(weights.codes());
    const std::int64_t in = shape_.input.count();
    Tensor dx(x_shape_, pass.arena);
    Buffer<std::int8_t> room = spread_room(product.block(), pass);
    Buffer<std::int32_t> sums(static_cast<std::size_t>(std::min(product.block(), batch_) * in), pass.arena);
    for (std::int64_t first = 0; first < batch_; first += product.block()) {
        const std::int64_t items = std::min(product.block(), batch_ - first);
        product.backward_input(items, result_gradient(first, items, room),
                               sums.values().first(static_cast<std::size_t>(items * in)));
        for (std::int64_t i = 0; i < items; ++i) {
            const float scale = gradient_.scales[static_cast<std::size_t>(first + i)];
            kernels::scale_sums(sums.data() + i * in, units.empty() ? scale * weights.scales[0] : scale,
                                static_cast<std::size_t>(in), dx.data() + (first + i) * in);
        }
    }
    return dx;
}

Buffer<std::int8_t> WeightedLayer::spread_room(std::int64_t block, const Pass& pass) const {
    const std::int64_t items = pool_ ? std::min(block, batch_) : 0;
    return Buffer<std::int8_t>(static_cast<std::size_t>(items * shape_.result.count()), pass.arena);
}

/// The codes of the product's results: those of the output, at their places before the pool.
std::span<const std::int8_t> WeightedLayer::result_gradient(std::int64_t first, std::int64_t items,
                                                            Buffer<std::int8_t>& room) const {
    const std::int64_t out = output_shape().count();
    const std::span<const std::int8_t> codes = part(gradient_.codes(), first, items, out);
    if (!pool_)
        return codes;
    tail::spread(extent_of(output_shape(), items, pool_, relu_), places_.data() + first * out, codes.data(),
                 room.data());
    return std::as_const(room).values().first(static_cast<std::size_t>(items * shape_.result.count()));
}

void WeightedLayer::measure_gradient(const Tensor& dy, const Pass& pass) {
    const auto lane = kProbeLane + static_cast<std::uint32_t>(index_);
    add(measured_.gradients, probe_quantizer_.error(dy.values(), layout_of(output_shape(), batch_), kProbeBits,
                                                    pass.key.with(Purpose::gradient_rounding, lane)));
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
    ProductMakers makers{.exact = [=, &backend] { return backend.linear(in, out, max_batch); }, .integer = {}};
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
                              .fan_in = g.fan_in(),
                              .macs = static_cast<double>(result.count() * g.fan_in()),
                              .bias = bias};
    ProductMakers makers{.exact = [=, &backend] { return backend.convolution(g, max_batch); }, .integer = {}};
    if (fits_integers(g))
        makers.integer = [=, &backend] { return backend.integer_convolution(g, max_batch); };
    return std::make_unique<WeightedLayer>(shape, makers, quantize, max_batch);
}

}  // namespace dither
