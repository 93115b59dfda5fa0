// Schemas for tests that need no model.
#pragma once

#include "core/model/schema.hpp"

#include <string>
#include <vector>

namespace dither {

struct LayerSize {
    std::size_t count = 0;  ///< parameters
    double macs = 0;
};

/// Layers "fc1", "fc2", ... with one weight [1, count] each.
inline Schema schema_of(const std::vector<LayerSize>& sizes) {
    std::vector<LayerSpec> layers;
    std::size_t offset = 0;
    for (const LayerSize& size : sizes) {
        LayerSpec layer;
        layer.name = "fc" + std::to_string(layers.size() + 1);
        layer.offset = offset;
        layer.count = size.count;
        layer.tensors = {{.name = "weight", .shape = {1, static_cast<std::int64_t>(size.count)}, .offset = offset}};
        layer.macs = size.macs;
        layers.push_back(layer);
        offset += size.count;
    }
    return Schema(std::move(layers));
}

}  // namespace dither
