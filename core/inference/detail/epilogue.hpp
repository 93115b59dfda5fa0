// What happens to the sums of an integer product before they are codes again: the fp32 operations of the layers behind
// it, in their order. Private to core/inference.
#pragma once

#include "core/inference/integer_model.hpp"

#include <cstddef>
#include <cstdint>

namespace dither::epilogue {

/// y = clamp(((s * factor + bias) - mean) * scale + shift + other), every operation rounded to fp32. Arrays hold the
/// constants of each value of a run: those of the channels, repeated.
struct Constants {
    const float* factor = nullptr;  ///< null: s are floats, and there is no bias either
    const float* bias = nullptr;
    const float* mean = nullptr;  ///< null: neither mean nor scale nor shift
    const float* scale = nullptr;
    const float* shift = nullptr;
    float low = 0;
    float high = 0;
};

/// `other` may be null, and may be y; so may x.
void finish(const std::int32_t* sums, const Constants& constants, const float* other, std::size_t count, float* y);
void finish(const float* x, const Constants& constants, const float* other, std::size_t count, float* y);

/// How to write codes: those of Quantizer::encode, found by the same division, or by a multiplication where that cannot
/// round differently.
struct Coder {
    explicit Coder(const ActivationGrid& grid);

    float scale;
    float inverse;  ///< 0 where it is not a normal number: always divides
    float low;      ///< codes, less the zero point
    float high;
    std::int32_t zero_point;
};
void encode(const float* y, const Coder& coder, std::size_t count, std::uint8_t* codes);

/// The largest of each window of 2x2 of two rows: sums [2, 2 * width, channels], largest [width, channels].
void halve(const std::int32_t* sums, std::size_t width, std::size_t channels, std::int32_t* largest);

void tanh(const float* x, std::size_t count, float* y);

}  // namespace dither::epilogue
