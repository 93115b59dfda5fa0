// Random variations of training images.
#pragma once

#include "core/choice.hpp"

#include <cstdint>
#include <vector>

namespace dither {

/// What happens to the images of a training batch, before they are normalized.
///
/// crop_flip: each image gets kCropMargin zero bytes on every side, a window of the image's own size is cut out at a
/// uniformly random place, and one of two is mirrored left to right: torchvision's RandomCrop(size, padding=4) and
/// RandomHorizontalFlip; Lee, Xie, Gallagher, Zhang, Tu, "Deeply-supervised nets", AISTATS 2015.
enum class Augmentation : std::uint8_t { none, crop_flip };

inline constexpr std::int64_t kCropMargin = 4;

/// In the order of the enumeration.
std::vector<Choice> augmentation_choices();

}  // namespace dither
