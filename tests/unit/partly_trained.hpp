// A schema of which not all is trained.
#pragma once

#include "core/model/schema.hpp"

#include <cstddef>
#include <cstdint>

namespace dither::test {

/// One layer of `trained` parameters and, behind them, `kept` untrained ones.
inline Schema partly_trained(std::int64_t trained, std::int64_t kept = 0) {
    LayerSpec layer{.name = "fc1", .count = static_cast<std::size_t>(trained + kept)};
    layer.tensors.push_back({.name = "weight", .shape = Shape{trained}});
    if (kept > 0)
        layer.tensors.push_back(
            {.name = "mean", .shape = Shape{kept}, .offset = static_cast<std::size_t>(trained), .trained = false});
    return Schema({layer});
}

}  // namespace dither::test
