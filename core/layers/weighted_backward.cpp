#include "core/layers/detail/operands.hpp"
#include "core/layers/detail/tail.hpp"
#include "core/layers/detail/weight_sums.hpp"
#include "core/layers/detail/weighted_kernels.hpp"
#include "core/layers/detail/weighted_layer.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>

namespace dither {
namespace {

constexpr int kProbeBits = 4;                    // the width whose error decides whether gradients may go that low
constexpr std::uint32_t kProbeLane = 1U << 16;   // the probe's rounding is independent of the gradient's own
constexpr std::int64_t kMostBiasRows = 1 << 24;  // codes of 7 bits and a sign that 32 bits can hold the sum of

template <typename T>
std::uint64_t count_nonzero(std::span<T> values) {
    return static_cast<std::uint64_t>(std::ranges::count_if(values, [](T value) { return value != T{}; }));
}

}  // namespace

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
    const bool needed = wanted || learns_inputs();
    Tensor dx = integer_backward() ? backward_integer(std::move(dy), pass, needed)
                                   : backward_exact(std::move(dy), pass, needed);
    train_ranges(dx, pass);
    mask_weight_gradient();
    if (wanted && !clipped_.empty())
        stop_marked(clipped_.values(), dx.values());
    input_.release();
    codes_.release();
    places_.release();
    clipped_.release();
    exact_input_.release();
    return wanted ? std::move(dx) : Tensor();
}

/// From the gradients of the rounded operands, before those of clipped values are stopped.
void WeightedLayer::train_ranges(const Tensor& dx, const Pass& pass) {
    std::ranges::fill(range_gradients_, 0.0F);
    if (learns_weights())
        weight_range_->backward(exact_weights_, weight_gradient(), weight_layout(), pass.loss_scale);
    if (learns_inputs())
        input_range_->backward(exact_input_.values(), dx.values(), input_layout(), pass.loss_scale);
}

Tensor WeightedLayer::backward_exact(Tensor dy, const Pass& pass, bool wanted) {
    const std::span<const float> weights = backward_weights();
    const Tensor x = backward_input_values(pass);
    if (widths_.gradients != kFullBits)
        dy = rounded_gradient(std::move(dy), pass);
    Product& product = float_product(bfloat_backward());
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
    if (widths_.weights == kFullBits && widths_.gradients == kFullBits)
        return exact_weights_;
    if (integer_forward())
        product_weights_ = decoded_weights();
    if (narrows_weights()) {
        const std::span<const float> values = product_weights_;
        rounded_.resize(weight_count());
        narrow_weight_quantizer_.apply(values, rounded_, weight_layout(), widths_.gradients, {});
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
    if (!narrows_inputs())
        return x;
    Tensor narrow(x.shape(), pass.arena);
    narrow_input_quantizer_.apply(x.values(), narrow.values(), input_layout(), widths_.gradients, {});
    return narrow;
}

/// The scales of w~_b, one for each output channel; empty where a channel has no scale of its own, or several.
std::span<const float> WeightedLayer::gradient_units() {
    const Quantizer& quantizer = narrows_weights() ? narrow_weight_quantizer_ : weight_quantizer_;
    if (quantizer.scales().size() == 1 || quantizer.scales().size() != factors_.size())
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
    const std::uint64_t before = pass.measure ? count_nonzero(g.values()) : 0;
    gradient_quantizer_.apply(g.values(), g.values(), gradient_layout(), widths_.gradients,
                              pass.key.with(Purpose::gradient_rounding, static_cast<std::uint32_t>(index_)),
                              pass.training);
    if (pass.measure)
        count_underflow(before, count_nonzero(g.values()));
    if (!units.empty())
        kernels::divide_columns(g.data(), units.data(), g.values().size() / units.size(), units.size(), g.data());
    return g;
}

/// w~_b as codes.
const WeightCodes& WeightedLayer::backward_weight_codes() {
    if (!narrows_weights())
        return weights_;
    std::span<const float> values = product_weights_;
    if (integer_forward())
        values = decoded_weights();
    narrow_weights_.encode(narrow_weight_quantizer_, values, weight_layout(), widths_.gradients, {}, true);
    return narrow_weights_;
}

void WeightedLayer::encode_gradient(Tensor dy, std::span<const float> units, const Pass& pass) {
    const Tensor g = in_units(std::move(dy), units, pass);
    gradient_.encode(gradient_quantizer_, g.values(), gradient_layout(), widths_.gradients,
                     pass.key.with(Purpose::gradient_rounding, static_cast<std::uint32_t>(index_)), pass.training,
                     pass.arena);
    if (pass.measure)
        count_underflow(count_nonzero(g.values()), count_nonzero(gradient_.codes()));
}

void WeightedLayer::count_underflow(std::uint64_t before, std::uint64_t after) {
    measured_.nonzero += before;
    measured_.underflow += before - after;
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
    add(measured_.gradients, probe_quantizer_.error(dy.values(), gradient_layout(), kProbeBits,
                                                    pass.key.with(Purpose::gradient_rounding, lane)));
}

void WeightedLayer::mask_weight_gradient() const {
    if (widths_.weights != kFullBits && weight_quantizer_.clipped() > 0)
        weight_quantizer_.mask_gradient(exact_weights_, weight_gradient(), weight_layout());
}

}  // namespace dither
