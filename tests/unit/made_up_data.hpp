// Small data sets that tests make up, from keyed streams.
#pragma once

#include <cstdint>
#include <vector>

#include "core/data/dataset.hpp"
#include "core/rng.hpp"

namespace dither {

/// `count` points of 4 features in two well separated classes.
inline Dataset two_blobs(std::size_t count) {
    Stream stream({.seed = 7, .purpose = Purpose::test});
    std::vector<float> values(count * 4);
    stream.fill_normal(values);
    std::vector<std::int32_t> labels(count);
    for (std::size_t i = 0; i < count; ++i) {
        labels[i] = static_cast<std::int32_t>(i % 2);
        for (std::size_t j = 0; j < 4; ++j)
            values[4 * i + j] += labels[i] == 1 ? 1.5F : -1.5F;
    }
    return Dataset(Shape{1, 4}, std::move(values), std::move(labels), 2, {}, 2);
}

}  // namespace dither
