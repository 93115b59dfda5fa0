// The elementwise loops of the layer with weights. Private to core/layers. Matrices are [rows, columns], row-major.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dither::kernels {

/// sums[c] = sum over rows of g[r][c].
void column_sums(const float* g, std::size_t rows, std::size_t columns, float* sums);
void column_sums(const std::int8_t* g, std::size_t rows, std::size_t columns, std::int32_t* sums);

/// y[r][c] = x[r][c] * unit[c], or / unit[c]; y may be x.
void multiply_columns(const float* x, const float* unit, std::size_t rows, std::size_t columns, float* y);
void divide_columns(const float* x, const float* unit, std::size_t rows, std::size_t columns, float* y);

/// y = scale * (code - offset).
void decode(const std::uint8_t* codes, float scale, std::int32_t offset, std::size_t count, float* y);
/// y[i] = scales[i % columns] * code, codes in two's complement.
void decode_channels(const std::uint8_t* codes, const float* scales, std::size_t count, std::int64_t columns, float* y);

/// y = scale * sum.
void scale_sums(const std::int32_t* sums, float scale, std::size_t count, float* y);
/// y[r][c] = factor[c] * sums[r][c], or +=.
void scale_columns(const std::int32_t* sums, const float* factor, std::size_t rows, std::size_t columns, float* y);
void add_scaled(const std::int32_t* sums, const float* factor, std::size_t rows, std::size_t columns, float* y);

}  // namespace dither::kernels
