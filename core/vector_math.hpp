// Reductions over flat vectors, in one fixed order, so that the same values give the same bits everywhere.
#pragma once

#include <span>

namespace dither {

/// sum of v[i]^2, in double, over 8 interleaved lanes.
double squared_norm(std::span<const float> v);
/// The same of doubles, one after the other.
double squared_norm(std::span<const double> v);
/// max |v[i]|; 0 for an empty vector. Not finite if any value is not.
float max_magnitude(std::span<const float> v);
bool all_finite(std::span<const float> v);

}  // namespace dither
