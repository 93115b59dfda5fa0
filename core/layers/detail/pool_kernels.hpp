// The loops of the pools. Private to core: inference runs them too.
#pragma once

#include <cstdint>

namespace dither {

struct PoolGeometry {
    std::int64_t height;
    std::int64_t width;
    std::int64_t channels;
    std::int64_t kernel_height;
    std::int64_t kernel_width;
    std::int64_t stride;
    std::int64_t padding;

    std::int64_t out_height() const { return (height + 2 * padding - kernel_height) / stride + 1; }
    std::int64_t out_width() const { return (width + 2 * padding - kernel_width) / stride + 1; }
    /// Windows of 2x2, side by side, that cover the image: what follows products as well (detail/tail.hpp).
    bool is_halving() const {
        return kernel_height == 2 && kernel_width == 2 && stride == 2 && padding == 0 && height % 2 == 0 &&
               width % 2 == 0;
    }
};

/// x: [batch, height, width, channels], y: [batch, out_height, out_width, channels]. `places` may be null.
void max_pool(const PoolGeometry& g, std::int64_t batch, const float* x, float* y, std::uint8_t* places);
/// fp32 sums in row order, divided by the places within the image.
void mean_pool(const PoolGeometry& g, std::int64_t batch, const float* x, float* y);

}  // namespace dither
