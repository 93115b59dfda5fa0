#include "aggregator/robust/detail/add_scaled.hpp"

#include "core/simd.hpp"

namespace dither {

DITHER_CLONES void add_scaled(double* sums, double factor, const float* values, std::size_t count) {
    for (std::size_t j = 0; j < count; ++j)
        sums[j] += factor * static_cast<double>(values[j]);
}

}  // namespace dither
