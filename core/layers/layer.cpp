#include "core/layers/layer.hpp"

#include "core/error.hpp"
#include "core/inference/lowering.hpp"

namespace dither {

void Layer::attach(std::size_t, std::span<float> values, std::span<float> gradients) {
    require(values.empty() && gradients.empty(), "a {} layer has no parameters, but got {}", kind(), values.size());
}

void Layer::report(LayerStatistics&) const {}

void Layer::lower(Lowering&) {
    refuse_conversion(kind(), "no steps are known for this kind of layer");
}

Tensor in_place_of(Tensor& x, const Pass& pass) {
    return x.unique() ? x.share() : Tensor(x.shape(), pass.arena);
}

}  // namespace dither
