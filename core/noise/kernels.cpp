#include "core/noise/detail/kernels.hpp"

#include "core/simd.hpp"

// `out` changes in place and is never one of the other arrays, so that no loop needs to find out.
namespace dither::kernels {

DITHER_CLONES void add_scaled(float* __restrict out, const float* normal, std::size_t n, float strength) {
    for (std::size_t i = 0; i < n; ++i)
        out[i] += strength * normal[i];
}

DITHER_CLONES void add_difference(float* __restrict out, const float* first, const float* second,
                                  const float* deviation, std::size_t n, float strength) {
    for (std::size_t i = 0; i < n; ++i)
        out[i] += strength * deviation[i] * (first[i] - second[i]);
}

DITHER_CLONES void add_biased(float* __restrict out, const float* normal, const float* mean, const float* deviation,
                              std::size_t n, float strength) {
    for (std::size_t i = 0; i < n; ++i)
        out[i] += strength * (mean[i] + deviation[i] * normal[i]);
}

DITHER_CLONES void add_uniform(float* __restrict out, const float* uniform, const float* step, std::size_t n,
                               float strength) {
    for (std::size_t i = 0; i < n; ++i)
        out[i] += strength * step[i] * (uniform[i] - 0.5F);
}

DITHER_CLONES void add_where(float* __restrict out, const float* normal, const float* chance, std::size_t n,
                             float share, float mean, float deviation) {
    for (std::size_t i = 0; i < n; ++i) {
        const float noisy = out[i] + (mean + deviation * normal[i]);
        out[i] = chance[i] < share ? noisy : out[i];
    }
}

}  // namespace dither::kernels
