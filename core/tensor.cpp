#include "core/tensor.hpp"

#include "core/error.hpp"

#include <utility>

namespace dither {

Shape::Shape(std::initializer_list<std::int64_t> extents) {
    require(extents.size() <= kMaxRank, "a shape has at most {} extents, not {}", kMaxRank, extents.size());
    for (const std::int64_t extent : extents) {
        require(extent >= 0, "extent {} of a shape is negative: {}", rank_, extent);
        extents_[static_cast<std::size_t>(rank_++)] = extent;
    }
}

std::int64_t Shape::count() const {
    std::int64_t product = 1;
    for (int axis = 0; axis < rank_; ++axis)
        product *= (*this)[axis];
    return product;
}

Shape Shape::with_batch(std::int64_t batch) const {
    require(rank_ > 0, "a shape of rank 0 has no batch extent");
    require(batch >= 0, "a batch has at least 0 items, not {}", batch);
    Shape shape = *this;
    shape.extents_[0] = batch;
    return shape;
}

std::string Shape::str() const {
    return fmt::format("[{}]", fmt::join(extents_.begin(), extents_.begin() + rank_, ", "));
}

void Tensor::resize(const Shape& shape) {
    shape_ = shape;
    count_ = static_cast<std::size_t>(shape.count());
    if (values_.size() < count_)
        values_.resize(count_);
}

std::span<const float> Tensor::item(std::int64_t index) const {
    require(shape_.rank() > 0 && index >= 0 &&
                    index<shape_[0], "item {} of a tensor of {} items", index, shape_.rank()> 0
                ? shape_[0]
                : 0);
    const std::size_t size = count_ / static_cast<std::size_t>(shape_[0]);
    return values().subspan(static_cast<std::size_t>(index) * size, size);
}

std::span<float> Tensor::item(std::int64_t index) {
    const std::span<const float> values = std::as_const(*this).item(index);
    return {data() + (values.data() - data()), values.size()};
}

}  // namespace dither
