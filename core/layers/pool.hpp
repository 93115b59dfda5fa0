// Pooling over NHWC images. x: [batch, height, width, channels]; `input` is one item, batch extent 1.
//
// A window that reaches beyond the image sees the places within it alone: the padding takes no part in a maximum and
// does not count in a mean. Sizes are rounded down: out = (in + 2 * padding - kernel) / stride + 1.
#pragma once

#include "core/layers/layer.hpp"

#include <memory>

namespace dither {

/// Square windows.
struct PoolWindow {
    std::int64_t kernel = 2;
    std::int64_t stride = 2;
    std::int64_t padding = 0;  ///< at most kernel / 2, so that every window sees the image

    bool operator==(const PoolWindow&) const = default;
};

/// The maximum of each window; its gradient goes to the window's first maximum in row order. A NaN stays one. Keeps a
/// byte for each value of y. Throws PreconditionError unless the window fits; kernels reach to 15.
std::unique_ptr<Layer> make_max_pool(const Shape& input, const PoolWindow& window = {});

/// The mean of each window: fp32 sums in row order. Throws PreconditionError unless the window fits.
std::unique_ptr<Layer> make_average_pool(const Shape& input, const PoolWindow& window = {});

/// The mean of each channel over the whole image (Lin, Chen, Yan, "Network in network", 2014); y: [batch, channels].
std::unique_ptr<Layer> make_global_pool(const Shape& input);

}  // namespace dither
