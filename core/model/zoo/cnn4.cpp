#include "core/model/detail/chain.hpp"

namespace dither {

/// Two pairs of 3x3 convolutions (as VGG stacks them: Simonyan, Zisserman, "Very deep convolutional networks for
/// large-scale image recognition", ICLR 2015). 467,818 parameters for images of 28x28x1 and 10 classes.
std::unique_ptr<Model> make_cnn4(Chain& chain, const ModelOptions&) {
    require_images(chain.input(), "cnn4", 4);
    chain.conv(32).relu().conv(32).max_pool().relu();
    chain.conv(64).relu().conv(64).max_pool().relu();
    return chain.linear(128).relu().linear(chain.input().outputs).build();
}

}  // namespace dither
