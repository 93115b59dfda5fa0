#include "core/model/detail/chain.hpp"
#include "core/layers/activation.hpp"
#include "core/layers/pool.hpp"
#include "core/layers/weighted.hpp"

namespace dither {

Chain& Chain::linear(std::int64_t out) {
    return add(make_linear(shape_.count(), out, quantize_, backend_, input_.max_batch));
}

Chain& Chain::conv(std::int64_t channels) {
    const ConvGeometry geometry{.in_height = shape_[1],
                                .in_width = shape_[2],
                                .in_channels = shape_[3],
                                .out_channels = channels,
                                .kernel = 3,
                                .stride = 1,
                                .padding = 1};
    return add(make_conv2d(geometry, quantize_, backend_, input_.max_batch));
}

Chain& Chain::relu() {
    return add(make_relu(shape_));
}

Chain& Chain::max_pool() {
    return add(make_max_pool(shape_));
}

Chain& Chain::add(std::unique_ptr<Layer> layer) {
    shape_ = layer->output_shape();
    layers_.push_back(std::move(layer));
    return *this;
}

}  // namespace dither
