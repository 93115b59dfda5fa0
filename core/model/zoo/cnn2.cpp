#include "core/model/detail/chain.hpp"

namespace dither {

/// ReLU follows the pool: the maximum commutes with it, and it has a quarter of the values to do.
std::unique_ptr<Model> make_cnn2(Chain& chain, const ModelOptions&) {
    require_images(chain.input(), "cnn2", 4);
    chain.conv(16).max_pool().relu().conv(32).max_pool().relu();
    return chain.linear(128).relu().linear(chain.input().outputs).build();
}

}  // namespace dither
