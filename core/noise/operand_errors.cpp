#include "core/noise/detail/operand_errors.hpp"

#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <cmath>

namespace dither {
namespace {

bool searches(const QuantizerOptions& options) {
    return options.observer == Observer::percentile || options.observer == Observer::mse;
}

/// What deployment would do: nearest rounding, and a range that is known.
QuantizerOptions target_of(QuantizerOptions options) {
    options.rounding = Rounding::nearest;
    options.format8 = Format8::int8;
    if (!searches(options))
        options.observer = Observer::minmax;
    return options;
}

QuantizerOptions exact(QuantizerOptions options) {
    options.observer = Observer::minmax;
    return options;
}

/// What the codes of a grid reach.
ClipRange reach_of(const ScaleZero& grid, Symmetry symmetry, int bits) {
    const int last = symmetry == Symmetry::symmetric ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
    const int first = symmetry == Symmetry::symmetric ? -last : 0;
    return {grid.scale * static_cast<float>(first - grid.zero_point),
            grid.scale * static_cast<float>(last - grid.zero_point)};
}

}  // namespace

OperandErrors::OperandErrors(const QuantizeOptions& options, int bits)
    : bits_(bits), weights_(target_of(options.weights)), inputs_(exact(target_of(options.activations))) {
    if (searches(options.activations))
        search_.emplace(target_of(options.activations));
}

bool OperandErrors::holds_range() const {
    const Granularity granularity = inputs_.options().granularity;
    return granularity == Granularity::per_tensor || granularity == Granularity::per_channel;
}

std::span<const float> OperandErrors::round(Quantizer& quantizer, std::span<const float> x, const QuantLayout& layout,
                                            bool update_range) {
    errors_.resize(x.size());
    quantizer.apply(x, errors_, layout, bits_, {}, update_range);
    for (std::size_t i = 0; i < x.size(); ++i)
        errors_[i] -= x[i];
    return errors_;
}

void OperandErrors::observe(const Operands& operands) {
    if (!holds_range())
        return;
    const bool by_channel = inputs_.options().granularity == Granularity::per_channel;
    range_.resize(by_channel ? operands.input_layout.columns : 1);
    ++batches_;
    if (search_)
        add_range(operands);
    else
        widen_range(operands);
}

void OperandErrors::widen_range(const Operands& operands) {
    for (std::size_t c = 0; c < range_.size(); ++c) {
        ClipRange found = range_[c];
        for (std::size_t i = c; i < operands.inputs.size(); i += range_.size())
            found = {std::min(found.low, operands.inputs[i]), std::max(found.high, operands.inputs[i])};
        range_[c] = found;
    }
}

void OperandErrors::add_range(const Operands& operands) {
    search_->reset();
    round(*search_, operands.inputs, operands.input_layout, true);
    for (std::size_t c = 0; c < range_.size(); ++c) {
        const ClipRange reach = reach_of(search_->scales()[c], search_->options().symmetry, bits_);
        range_[c] = {range_[c].low + reach.low, range_[c].high + reach.high};
    }
}

/// Shows the exact observer the ends of the range, which is all that it learns from a tensor.
void OperandErrors::hold_range() {
    const float share = search_ ? 1 / static_cast<float>(batches_) : 1;
    std::vector<float> ends;
    for (const ClipRange& range : range_)
        ends.push_back(share * range.low);
    for (const ClipRange& range : range_)
        ends.push_back(share * range.high);
    round(inputs_, ends, {.rows = 2, .columns = range_.size()}, true);
    held_ = true;
}

std::span<const float> OperandErrors::of_weights(const Operands& operands) {
    weights_.reset();
    return round(weights_, operands.weights, operands.weight_layout, true);
}

std::span<const float> OperandErrors::of_inputs(const Operands& operands) {
    if (!holds_range()) {
        inputs_.reset();
        return round(inputs_, operands.inputs, operands.input_layout, true);
    }
    if (!held_)
        hold_range();
    return round(inputs_, operands.inputs, operands.input_layout, false);
}

std::vector<float> OperandErrors::weight_steps(std::size_t channels) const {
    const std::span<const ScaleZero> scales = weights_.scales();
    if (scales.size() == 1)
        return std::vector<float>(channels, scales[0].scale);
    require(scales.size() % channels == 0, "{} scales for {} channels", scales.size(), channels);
    std::vector<double> squares(channels);
    for (std::size_t g = 0; g < scales.size(); ++g)
        squares[g % channels] += std::pow(static_cast<double>(scales[g].scale), 2);
    std::vector<float> steps(channels);
    const double groups = static_cast<double>(scales.size() / channels);
    std::ranges::transform(squares, steps.begin(),
                           [&](double square) { return static_cast<float>(std::sqrt(square / groups)); });
    return steps;
}

double OperandErrors::squared_input_step() const {
    double squares = 0;
    for (const ScaleZero& scale : inputs_.scales())
        squares += static_cast<double>(scale.scale) * static_cast<double>(scale.scale);
    return squares / static_cast<double>(inputs_.scales().size());
}

void MomentSums::add(std::span<const float> values) {
    for (const float value : values) {
        sum += static_cast<double>(value);
        squares += static_cast<double>(value) * static_cast<double>(value);
    }
    count += values.size();
}

double MomentSums::variance() const {
    return std::max(squares / static_cast<double>(count) - mean() * mean(), 0.0);
}

std::vector<MomentSums> channel_moments(std::span<const float> values, std::size_t channels) {
    std::vector<MomentSums> moments(channels);
    for (std::size_t i = 0; i < values.size(); ++i)
        moments[i % channels].add(values.subspan(i, 1));
    return moments;
}

void visit_operands(Model& model, const Dataset& data, std::span<const std::uint32_t> indices, Batch& batch,
                    const OperandVisitor& visitor) {
    const Pass pass{.operands = &visitor, .keep = false};
    const auto most = static_cast<std::size_t>(model.max_batch());
    for (std::size_t begin = 0; begin < indices.size(); begin += most) {
        data.gather(indices.subspan(begin, std::min(most, indices.size() - begin)), batch);
        model.forward(batch.inputs, pass);
    }
}

}  // namespace dither
