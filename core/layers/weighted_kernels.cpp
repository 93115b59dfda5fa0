#include "core/layers/detail/weighted_kernels.hpp"

#include "core/simd.hpp"

namespace dither::kernels {

// Four rows at a time: a quarter of the additions wait for the one before.
DITHER_CLONES void column_sums(const float* g, std::size_t rows, std::size_t columns, float* sums) {
    for (std::size_t c = 0; c < columns; ++c)
        sums[c] = 0;
    std::size_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        const float* row = g + r * columns;
        for (std::size_t c = 0; c < columns; ++c)
            sums[c] += (row[c] + row[c + columns]) + (row[c + 2 * columns] + row[c + 3 * columns]);
    }
    for (; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c)
            sums[c] += g[r * columns + c];
}

DITHER_CLONES void column_sums(const std::int8_t* g, std::size_t rows, std::size_t columns, std::int32_t* sums) {
    for (std::size_t c = 0; c < columns; ++c)
        sums[c] = 0;
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c)
            sums[c] += g[r * columns + c];
}

DITHER_CLONES void multiply_columns(const float* x, const float* unit, std::size_t rows, std::size_t columns,
                                    float* y) {
    for (std::size_t r = 0; r < rows; ++r)
#pragma GCC ivdep
        for (std::size_t c = 0; c < columns; ++c)
            y[r * columns + c] = x[r * columns + c] * unit[c];
}

DITHER_CLONES void divide_columns(const float* x, const float* unit, std::size_t rows, std::size_t columns, float* y) {
    for (std::size_t r = 0; r < rows; ++r)
#pragma GCC ivdep
        for (std::size_t c = 0; c < columns; ++c)
            y[r * columns + c] = x[r * columns + c] / unit[c];
}

DITHER_CLONES void decode(const std::uint8_t* codes, float scale, std::int32_t offset, std::size_t count, float* y) {
    for (std::size_t i = 0; i < count; ++i)
        y[i] = scale * static_cast<float>(static_cast<std::int32_t>(codes[i]) - offset);
}

DITHER_CLONES void decode_channels(const std::uint8_t* codes, const float* scales, std::size_t count,
                                   std::int64_t columns, float* y) {
    const auto width = static_cast<std::size_t>(columns);
    for (std::size_t row = 0; row < count; row += width)
#pragma GCC ivdep
        for (std::size_t c = 0; c < width; ++c)
            y[row + c] = scales[c] * static_cast<float>(static_cast<std::int8_t>(codes[row + c]));
}

DITHER_CLONES void scale_sums(const std::int32_t* sums, float scale, std::size_t count, float* y) {
    for (std::size_t i = 0; i < count; ++i)
        y[i] = scale * static_cast<float>(sums[i]);
}

DITHER_CLONES void scale_columns(const std::int32_t* sums, const float* factor, std::size_t rows, std::size_t columns,
                                 float* y) {
    for (std::size_t r = 0; r < rows; ++r)
#pragma GCC ivdep
        for (std::size_t c = 0; c < columns; ++c)
            y[r * columns + c] = factor[c] * static_cast<float>(sums[r * columns + c]);
}

DITHER_CLONES void add_scaled(const std::int32_t* sums, const float* factor, std::size_t rows, std::size_t columns,
                              float* y) {
    for (std::size_t r = 0; r < rows; ++r)
#pragma GCC ivdep
        for (std::size_t c = 0; c < columns; ++c)
            y[r * columns + c] += factor[c] * static_cast<float>(sums[r * columns + c]);
}

}  // namespace dither::kernels
