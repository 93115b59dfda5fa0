// The elementwise loops of noise, over chunks of values. Private to core/noise.
#pragma once

#include <cstddef>

namespace dither::kernels {

/// Samples drawn at once: a whole number of stream blocks, so that the chunks do not show.
inline constexpr std::size_t kNoiseChunk = 1024;

/// out[i] += strength * normal[i].
void add_scaled(float* out, const float* normal, std::size_t n, float strength);
/// out[i] += strength * deviation[i] * (first[i] - second[i]).
void add_difference(float* out, const float* first, const float* second, const float* deviation, std::size_t n,
                    float strength);
/// out[i] += strength * (mean[i] + deviation[i] * normal[i]).
void add_biased(float* out, const float* normal, const float* mean, const float* deviation, std::size_t n,
                float strength);
/// out[i] += strength * step[i] * (uniform[i] - 1/2).
void add_uniform(float* out, const float* uniform, const float* step, std::size_t n, float strength);
/// out[i] += mean + deviation * normal[i] where chance[i] < share.
void add_where(float* out, const float* normal, const float* chance, std::size_t n, float share, float mean,
               float deviation);

}  // namespace dither::kernels
