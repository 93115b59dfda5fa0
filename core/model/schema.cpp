#include "core/model/schema.hpp"

#include "core/error.hpp"

#include <algorithm>

namespace dither {

std::size_t LayerSpec::trained_count() const {
    std::size_t trained = 0;
    for (const TensorSpec& tensor : tensors)
        trained += tensor.trained ? static_cast<std::size_t>(tensor.shape.count()) : 0;
    return trained;
}

Schema::Schema(std::vector<LayerSpec> layers) : layers_(std::move(layers)) {
    for (const LayerSpec& layer : layers_) {
        require(layer.offset == parameters_, "layer {} starts at {}, expected {}", layer.name, layer.offset,
                parameters_);
        require(std::ranges::is_partitioned(layer.tensors, &TensorSpec::trained),
                "layer {} has a trained tensor behind an untrained one", layer.name);
        for (const TensorSpec& tensor : layer.tensors) {
            require(tensor.offset == parameters_, "tensor {}.{} starts at {}, expected {}", layer.name, tensor.name,
                    tensor.offset, parameters_);
            parameters_ += static_cast<std::size_t>(tensor.shape.count());
        }
        require(layer.offset + layer.count == parameters_, "layer {} has {} parameters, its tensors {}", layer.name,
                layer.count, parameters_ - layer.offset);
    }
}

std::span<const float> Schema::slice(std::span<const float> flat, std::size_t index) const {
    require(flat.size() == parameters_, "expected {} parameters, got {}", parameters_, flat.size());
    require(index < layers_.size(), "layer {} of {}", index, layers_.size());
    return flat.subspan(layers_[index].offset, layers_[index].count);
}

std::span<float> Schema::slice(std::span<float> flat, std::size_t index) const {
    const std::span<const float> part = slice(std::span<const float>(flat), index);
    return flat.subspan(static_cast<std::size_t>(part.data() - flat.data()), part.size());
}

}  // namespace dither
