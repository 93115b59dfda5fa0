// Functions of flat vectors: reductions in one fixed order and exponentials without the C library, so that the same
// values give the same bits everywhere.
#pragma once

#include <span>

namespace dither {

/// sum of v[i]^2, in double, over 8 interleaved lanes.
double squared_norm(std::span<const float> v);
/// The same of doubles, one after the other.
double squared_norm(std::span<const double> v);
/// sqrt(squared_norm(v) / v's size); 0 for an empty vector.
double root_mean_square(std::span<const float> v);
/// average[i] <- memory * average[i] + (1 - memory) * v[i] in the pass that takes squared_norm(v), which it returns.
/// Both have the same size.
double blend_and_square(std::span<float> average, std::span<const float> v, float memory);
/// sum[i] += factor * (a[i] - b[i]), each operation rounded. All have the same size.
void add_difference(std::span<float> sum, float factor, std::span<const float> a, std::span<const float> b);
/// max |v[i]|; 0 for an empty vector. Not finite if any value is not.
float max_magnitude(std::span<const float> v);
bool all_finite(std::span<const float> v);

/// out[i] = e^x[i] within 1 unit in the last place; 0 below x = -87.33, where results would be subnormal, and infinite
/// above 88.7228. A NaN stays one. The C library's exp picks variants with and without fused multiply-adds by
/// processor, whose last bits differ. Both have the same size; out may be x.
void exponentials(std::span<const float> x, std::span<float> out);

/// log2(x) for a finite x > 0, within about 2 units in the last place, exact for powers of two; for the same reason.
double binary_logarithm(double x);

/// 2^x for a finite x, within about 2 units in the last place, exact for whole x; 0 and infinity beyond double's range;
/// for the same reason.
double binary_power(double x);

/// (1 - cos(pi t)) / 2 for t in [0, 1], which rises smoothly from 0 to 1: exactly 0, 1/2 and 1 at t = 0, 1/2 and 1,
/// elsewhere within 2^-52, never beyond [0, 1]; for the same reason.
double half_cosine(double t);

}  // namespace dither
