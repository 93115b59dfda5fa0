#include "core/tensor.hpp"

#include "core/error.hpp"

#include <algorithm>
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

Tensor::Tensor(const Shape& shape, Arena* arena)
    : shape_(shape), count_(static_cast<std::size_t>(shape.count())), values_(count_, arena) {}

Tensor::Tensor(const Tensor& other) : shape_(other.shape_), count_(other.count_), values_(other.count_) {
    std::ranges::copy(other.values(), values_.data());
}

Tensor& Tensor::operator=(const Tensor& other) {
    return *this = Tensor(other);
}

Tensor::Tensor(Tensor&& other) noexcept
    : shape_(std::exchange(other.shape_, {})),
      count_(std::exchange(other.count_, 0)),
      values_(std::move(other.values_)) {}

Tensor& Tensor::operator=(Tensor&& other) noexcept {
    shape_ = std::exchange(other.shape_, {});
    count_ = std::exchange(other.count_, 0);
    values_ = std::move(other.values_);
    return *this;
}

void Tensor::resize(const Shape& shape) {
    shape_ = shape;
    count_ = static_cast<std::size_t>(shape.count());
    if (values_.size() >= count_)
        return;
    values_ = Buffer<float>(count_);
    std::ranges::fill(values_.values(), 0.0F);
}

Tensor Tensor::share() const {
    Tensor second;
    second.shape_ = shape_;
    second.count_ = count_;
    second.values_ = values_.share();
    return second;
}

void Tensor::release() {
    *this = Tensor();
}

std::span<const float> Tensor::item(std::int64_t index) const {
    const std::int64_t items = shape_.rank() > 0 ? shape_[0] : 0;
    require(index >= 0 && index < items, "item {} of a tensor of {} items", index, items);
    const std::size_t size = count_ / static_cast<std::size_t>(items);
    return values().subspan(static_cast<std::size_t>(index) * size, size);
}

std::span<float> Tensor::item(std::int64_t index) {
    const std::span<const float> values = std::as_const(*this).item(index);
    return {data() + (values.data() - data()), values.size()};
}

}  // namespace dither
