// What readers of image formats share: from bytes and labels to a normalized pair of sets.
#pragma once

#include "core/data/dataset.hpp"
#include "core/tensor.hpp"

#include <cstdint>
#include <vector>

namespace dither::detail {

struct LabelledImages {
    Shape sample;                      ///< [1, height, width, channels]
    std::vector<std::uint8_t> pixels;  ///< [count, height, width, channels]
    std::vector<std::int32_t> labels;  ///< [count], 0 .. classes - 1
};

/// Keeps the first options.limit training images (0 = all) and normalizes both sets: each channel by its mean and
/// deviation in options, else in the training images. A channel whose pixels are all alike is only centered.
DataSplits normalize_splits(LabelledImages train, LabelledImages test, int classes, const DataOptions& options);

}  // namespace dither::detail
