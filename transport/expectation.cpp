#include "transport/expectation.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>

namespace dither {
namespace {

/// Nothing is expected to be smaller than the tensor's mean by more: 2^-8. Where a sum was zero, an update may not be.
constexpr std::int32_t kBelowMean = 8 * 16;

/// Of the mean of `count` magnitudes.
std::int32_t level_of_mean(double total, std::size_t count) {
    return level_of(static_cast<float>(total / static_cast<double>(count)));
}

}  // namespace

MatrixExtents MatrixExtents::of(const Shape& shape) {
    const auto count = static_cast<std::size_t>(shape.count());
    if (shape.rank() < 2 || count == 0)
        return {.rows = count, .columns = 1};
    const auto columns = static_cast<std::size_t>(shape[shape.rank() - 1]);
    return {.rows = count / columns, .columns = columns};
}

Expectation::Expectation(const Schema& schema, std::span<const float> sum) {
    require(sum.size() == schema.parameters(), "{} values for a model of {} parameters", sum.size(),
            schema.parameters());
    for (const LayerSpec& layer : schema.layers())
        for (const TensorSpec& tensor : layer.tensors)
            add(MatrixExtents::of(tensor.shape),
                sum.subspan(tensor.offset, static_cast<std::size_t>(tensor.shape.count())));
}

void Expectation::add(const MatrixExtents& extents, std::span<const float> sum) {
    const std::size_t first = levels_.size();
    std::vector<double> columns(extents.columns);
    double total = 0;
    for (std::size_t i = 0; i < extents.rows; ++i) {
        double row = 0;
        for (std::size_t j = 0; j < extents.columns; ++j) {
            const double magnitude = std::abs(static_cast<double>(sum[i * extents.columns + j]));
            row += magnitude;
            columns[j] += magnitude;
        }
        total += row;
        levels_.push_back(static_cast<std::int16_t>(level_of_mean(row, extents.columns)));
    }
    const std::int32_t mean = level_of_mean(total, std::max(sum.size(), std::size_t{1}));
    for (const double column : columns)
        levels_.push_back(
            static_cast<std::int16_t>(level_of_mean(column, std::max(extents.rows, std::size_t{1})) - mean));
    tensors_.push_back({.first = first, .extents = extents, .least = mean - kBelowMean});
}

Expectation::Levels Expectation::of(std::size_t tensor) const {
    require(tensor < tensors_.size(), "tensor {} of {}", tensor, tensors_.size());
    const Tensor& place = tensors_[tensor];
    const std::span<const std::int16_t> levels = std::span(levels_).subspan(place.first);
    return {.rows = levels.first(place.extents.rows),
            .columns = levels.subspan(place.extents.rows, place.extents.columns),
            .least = place.least};
}

}  // namespace dither
