// Dense float tensors, NHWC, in memory aligned to a cache line.
#pragma once

#include "core/arena.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include <boost/align/aligned_allocator.hpp>

namespace dither {

/// Up to four extents, outermost first: images are [batch, height, width, channels], features [batch, features].
class Shape {
public:
    static constexpr int kMaxRank = 4;

    Shape() = default;
    /// Throws PreconditionError on more than kMaxRank extents or a negative one.
    Shape(std::initializer_list<std::int64_t> extents);

    int rank() const { return rank_; }
    std::int64_t operator[](int axis) const { return extents_[static_cast<std::size_t>(axis)]; }
    /// The product of all extents; 1 for rank 0.
    std::int64_t count() const;
    /// This shape with its outermost extent replaced: the same item, another batch size.
    Shape with_batch(std::int64_t batch) const;
    /// "[32, 28, 28, 1]"
    std::string str() const;

    bool operator==(const Shape&) const = default;

private:
    std::array<std::int64_t, kMaxRank> extents_{};
    int rank_ = 0;
};

/// 64-byte aligned storage: a whole cache line and a whole AVX-512 register.
using AlignedFloats = std::vector<float, boost::alignment::aligned_allocator<float, 64>>;

/// Owns its values, in an arena or in the system's memory; copying copies them into the system's. Not thread-safe.
class Tensor {
public:
    Tensor() = default;
    /// All zeros, in the system's memory.
    explicit Tensor(const Shape& shape) { resize(shape); }
    /// In `arena`, where there is one; values are unspecified.
    Tensor(const Shape& shape, Arena* arena);
    Tensor(const Tensor& other);
    Tensor& operator=(const Tensor& other);
    Tensor(Tensor&& other) noexcept;
    Tensor& operator=(Tensor&& other) noexcept;

    /// Takes the new shape. Memory only ever grows, so that a buffer planned for the largest batch never allocates
    /// again. Values are unspecified afterwards, except that new memory is zero. Not for a tensor that is shared.
    void resize(const Shape& shape);
    /// A second handle to the same values.
    Tensor share() const;
    /// No other handle sees these values, so they may be changed in place.
    bool unique() const { return values_.unique(); }
    void release();

    const Shape& shape() const { return shape_; }
    bool empty() const { return shape_.rank() == 0; }
    std::int64_t count() const { return static_cast<std::int64_t>(count_); }
    float* data() { return values_.data(); }
    const float* data() const { return values_.data(); }
    std::span<float> values() { return {values_.data(), count_}; }
    std::span<const float> values() const { return {values_.data(), count_}; }
    /// The values of item `index` of the batch.
    std::span<float> item(std::int64_t index);
    std::span<const float> item(std::int64_t index) const;

private:
    Shape shape_;
    std::size_t count_ = 0;
    Buffer<float> values_;
};

}  // namespace dither
