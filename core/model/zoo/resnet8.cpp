// The image classifier of MLPerf Tiny: Banbury, Reddi, Torelli et al., "MLPerf Tiny benchmark", NeurIPS 2021 (datasets
// and benchmarks), a residual network (He et al. 2016) with one block for each of three widths.
//
// For 32x32x3 images and 10 classes it has 77,946 trained parameters: 3x3 convolutions without bias, since batch norm
// follows, 1x1 shortcuts with bias and without batch norm, as published, two tensors for each batch norm, and the
// linear layer. (The published model also gives the 3x3 convolutions biases, 240 values that batch norm cancels, and
// counts 480 running statistics: 78,666.) Padding is symmetric here, and after the image at stride 2 there.
#include "core/model/detail/chain.hpp"

namespace dither {
namespace {

constexpr ConvOptions without_bias(std::int64_t stride) {
    return {.stride = stride, .bias = false};
}

/// At stride 1 the shortcut is the identity.
void append_block(Chain& chain, std::int64_t channels, std::int64_t stride) {
    const auto body = [=](Chain& way) {
        way.conv(channels, without_bias(stride)).batch_norm().relu();
        way.conv(channels, without_bias(1)).batch_norm();
    };
    const auto shortcut = [=](Chain& way) {
        if (stride > 1)
            way.conv(channels, {.kernel = 1, .stride = stride, .padding = 0});
    };
    chain.residual(body, shortcut).relu();
}

}  // namespace

std::unique_ptr<Model> make_resnet8(Chain& chain, const ModelOptions&) {
    require_images(chain.input(), "resnet8", 4);
    chain.conv(16, without_bias(1)).batch_norm().relu();
    append_block(chain, 16, 1);
    append_block(chain, 32, 2);
    append_block(chain, 64, 2);
    return chain.global_pool().linear(chain.input().outputs).build();
}

}  // namespace dither
