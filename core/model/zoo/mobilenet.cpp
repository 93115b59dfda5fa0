// A small network of depthwise separable convolutions (Howard, Zhu, Chen et al., "MobileNets: efficient convolutional
// neural networks for mobile vision applications", 2017): each block is a depthwise 3x3 and a pointwise 1x1
// convolution, both with batch norm and ReLU. Widths and strides are chosen for images of 28x28 and 32x32, of which two
// halvings leave 7x7 and 8x8 pixels. 37,162 trained parameters for 32x32x3 images and 10 classes.
#include "core/model/detail/chain.hpp"

namespace dither {
namespace {

void append_block(Chain& chain, std::int64_t channels, std::int64_t stride) {
    const std::int64_t in = chain.shape()[3];
    chain.conv(in, {.stride = stride, .groups = in, .bias = false}).batch_norm().relu();
    chain.conv(channels, {.kernel = 1, .padding = 0, .bias = false}).batch_norm().relu();
}

}  // namespace

std::unique_ptr<Model> make_mobilenet(Chain& chain, const ModelOptions&) {
    require_images(chain.input(), "mobilenet", 4);
    chain.conv(16, {.bias = false}).batch_norm().relu();
    append_block(chain, 32, 1);
    append_block(chain, 64, 2);
    append_block(chain, 64, 1);
    append_block(chain, 128, 2);
    append_block(chain, 128, 1);
    return chain.global_pool().linear(chain.input().outputs).build();
}

}  // namespace dither
