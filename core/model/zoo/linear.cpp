#include "core/model/detail/chain.hpp"

namespace dither {

std::unique_ptr<Model> make_linear_model(Chain& chain, const ModelOptions&) {
    return chain.linear(chain.input().outputs).build();
}

}  // namespace dither
