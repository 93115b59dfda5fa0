// One image, moved by up to kCropMargin pixels and perhaps mirrored.
#pragma once

#include "core/data/augmentation.hpp"

#include <cstdint>

namespace dither::detail {

/// Pixel (y, x) of the result is pixel (y + down, x + right) of the image, zero outside of it, and then mirrored.
struct CropFlip {
    std::int64_t down = 0;   ///< -kCropMargin .. kCropMargin
    std::int64_t right = 0;  ///< -kCropMargin .. kCropMargin
    bool mirrored = false;

    bool operator==(const CropFlip&) const = default;
};

/// The 162 variations, each with the same chance to 2^-24, from one uniform word.
CropFlip draw_crop_flip(std::uint32_t word);

struct ImageExtent {
    std::int64_t height = 0;
    std::int64_t width = 0;
    std::int64_t channels = 0;
};

/// image, out: [height, width, channels], apart from each other; all of `out` is written.
void crop_flip(const ImageExtent& extent, const std::uint8_t* image, const CropFlip& variation, std::uint8_t* out);

}  // namespace dither::detail
