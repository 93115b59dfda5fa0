// Numbers of 16 bits on the wire: binary16 of IEEE 754 (fp16), or the upper half of an fp32 number (bf16).
#pragma once

#include "core/quantize/float_format.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace dither::detail {

inline constexpr std::size_t kHalfBytes = 2;

/// Appends the numbers of `format` (fp16 or bf16) nearest to `values`, ties to even, little-endian. Values are finite;
/// throws TrainingError if one is beyond the format's largest.
void append_halves(std::span<const float> values, FloatFormat format, std::vector<std::byte>& out);

/// The values of values.size() numbers from `bytes` on; not finite where a number is not.
void load_halves(const std::byte* bytes, FloatFormat format, std::span<float> values);

}  // namespace dither::detail
