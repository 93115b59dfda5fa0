#include "core/error.hpp"
#include "core/model/detail/chain.hpp"

namespace dither {

std::unique_ptr<Model> make_mlp(Chain& chain, const ModelOptions& options) {
    for (const std::int64_t width : options.hidden) {
        if (width < 1)
            throw InputError(fmt::format("model.hidden: expected widths of at least 1, got {}", width));
        chain.linear(width).relu();
    }
    return chain.linear(chain.input().outputs).build();
}

}  // namespace dither
