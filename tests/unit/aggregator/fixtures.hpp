// What several tests of the aggregator need: a small schema, a folder that vanishes.
#pragma once

#include "core/config.hpp"
#include "core/model/schema.hpp"
#include "tests/unit/temporary_folder.hpp"

#include <string>

namespace dither::test {

inline LayerSpec layer(std::string name, std::size_t offset, std::int64_t count) {
    return {.name = std::move(name),
            .offset = offset,
            .count = static_cast<std::size_t>(count),
            .tensors = {{"weight", Shape{count}, offset}},
            .macs = static_cast<double>(count)};
}

/// fc1: 5 parameters, fc2: 3.
inline const Schema& small_schema() {
    static const Schema schema({layer("fc1", 0, 5), layer("fc2", 5, 3)});
    return schema;
}

}  // namespace dither::test
