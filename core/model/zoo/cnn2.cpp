#include "core/error.hpp"
#include "core/model/detail/chain.hpp"

namespace dither {

/// ReLU follows the pool: the maximum commutes with it, and it has a quarter of the values to do.
std::unique_ptr<Model> make_cnn2(Chain& chain, const ModelOptions&) {
    const Shape& s = chain.input().sample;
    if (s.rank() != 4 || s[1] < 4 || s[2] < 4 || s[1] % 4 != 0 || s[2] % 4 != 0)
        throw InputError(
            fmt::format("model.name: cnn2 needs images [1, height, width, channels] whose height and width are "
                        "divisible by 4, but a sample is {}",
                        s.str()));
    chain.conv(16).max_pool().relu().conv(32).max_pool().relu();
    return chain.linear(128).relu().linear(chain.input().outputs).build();
}

}  // namespace dither
