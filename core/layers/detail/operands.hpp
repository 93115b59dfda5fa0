// How the operands of a product lie in memory, and which of them have codes. Private to core/layers.
#pragma once

#include "core/layers/detail/tail.hpp"
#include "core/quantize/quantizer.hpp"
#include "core/tensor.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>

namespace dither {

inline constexpr int kCodeBits = 8;  ///< the widest codes that integer products take

/// The item's last extent is its channels; `samples` groups of rows.
inline QuantLayout layout_of(const Shape& item, std::int64_t samples) {
    const std::int64_t columns = item[item.rank() - 1];
    return {.rows = static_cast<std::size_t>(samples * item.count() / columns),
            .columns = static_cast<std::size_t>(columns),
            .samples = static_cast<std::size_t>(samples)};
}

/// `items` results of a product as the tail sees them.
inline tail::Extent extent_of(const Shape& output, std::int64_t items, bool pool, bool relu) {
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
inline bool has_codes(const Quantizer& quantizer, int bits) {
    return bits <= kCodeBits && !float_format(quantizer.options(), bits);
}

/// Whether values of so many bits are bfloat16 numbers.
inline bool is_bfloat(const Quantizer& quantizer, int bits) {
    return float_format(quantizer.options(), bits) == FloatFormat::bf16;
}

inline void add(QuantError& sum, const QuantError& term) {
    sum.error += term.error;
    sum.signal += term.signal;
}

inline bool all_equal(std::span<const float> values) {
    return std::ranges::adjacent_find(values, std::not_equal_to<>()) == values.end();
}

}  // namespace dither
