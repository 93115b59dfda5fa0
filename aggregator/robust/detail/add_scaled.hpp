// The sum that rules and attacks are made of.
#pragma once

#include <cstddef>

namespace dither {

/// sums[j] += factor * values[j], in double.
void add_scaled(double* sums, double factor, const float* values, std::size_t count);

}  // namespace dither
