// How large the coordinates of an update are likely to be, from an earlier sum that both ends know: what the context
// coder of the grid codes by.
//
//     |x(i, j)| is about row(i) * column(j) / mean
//
// for each tensor as a matrix, [all extents but the last, the last one], from the means of |sum| over its rows, its
// columns and all of it: the product that has the same margins.
#pragma once

#include "core/model/schema.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dither {

/// A tensor as a matrix in row-major order.
struct MatrixExtents {
    std::size_t rows = 0;
    std::size_t columns = 0;

    /// [.., last] is so many rows of `last`; a vector is one column.
    static MatrixExtents of(const Shape& shape);
};

/// log2(value) in sixteenths, off by at most 1.4 of them: exponent and leading bits of the float. value > 0; the level
/// of 0 is below all others.
constexpr std::int32_t level_of(float value) {
    constexpr unsigned kBelow = 23 - 4;
    return static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(value) >> kBelow) - (127 << 4);
}

/// Immutable after construction; may be shared by threads. The same, bit for bit, on every machine: levels are
/// integers, and their means are summed in one order.
class Expectation {
public:
    /// `sum`: what the last broadcast changed of the model, as nodes decode it; finite.
    Expectation(const Schema& schema, std::span<const float> sum);

    /// The level of coordinate (i, j) of a tensor: max(rows[i] + columns[j], least).
    struct Levels {
        std::span<const std::int16_t> rows;
        std::span<const std::int16_t> columns;
        std::int32_t least = 0;
    };
    std::size_t tensor_count() const { return tensors_.size(); }
    /// Tensors are counted through all layers.
    Levels of(std::size_t tensor) const;

private:
    struct Tensor {
        std::size_t first = 0;  ///< in levels_: rows, then columns
        MatrixExtents extents;
        std::int32_t least = 0;
    };
    void add(const MatrixExtents& extents, std::span<const float> sum);

    std::vector<Tensor> tensors_;
    std::vector<std::int16_t> levels_;
};

}  // namespace dither
