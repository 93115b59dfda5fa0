#include "core/layers/sequential.hpp"

#include "core/error.hpp"

namespace dither {

Sequential::Sequential(std::vector<std::unique_ptr<Layer>> layers) : layers_(std::move(layers)) {
    require(!layers_.empty(), "a sequence needs at least one layer");
}

Tensor Sequential::forward(Tensor x, const Pass& pass) {
    for (const auto& layer : layers_)
        x = layer->forward(std::move(x), pass);
    return x;
}

Tensor Sequential::backward(Tensor dy, const Pass& pass, bool wanted) {
    for (std::size_t i = layers_.size(); i-- > 0;)
        dy = layers_[i]->backward(std::move(dy), pass, wanted || i > 0);
    return dy;
}

void Sequential::visit(const std::function<void(Layer&)>& visitor) {
    for (const auto& layer : layers_)
        layer->visit(visitor);
}

void Sequential::lower(Lowering& out) {
    for (const auto& layer : layers_)
        layer->lower(out);
}

}  // namespace dither
