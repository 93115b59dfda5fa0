#include "core/data/augmentation.hpp"

#include "core/data/detail/crop_flip.hpp"
#include "core/simd.hpp"

#include <algorithm>
#include <cstring>

namespace dither {

std::vector<Choice> augmentation_choices() {
    return {{"none", "images as they are"},
            {"crop_flip", "moved by up to 4 pixels, with zeros from beyond the edge, and one of two mirrored"}};
}

namespace detail {
namespace {

DITHER_CLONES void mirror_gray(const std::uint8_t* __restrict from, std::int64_t pixels, std::uint8_t* __restrict to) {
    for (std::int64_t x = 0; x < pixels; ++x)
        to[x] = from[pixels - 1 - x];
}

void mirror_color(const std::uint8_t* from, std::int64_t pixels, std::uint8_t* to) {
    const std::uint8_t* source = from + (pixels - 1) * 3;
    std::copy_n(source, 3, to);
    // Four bytes at once, of which the next pixel overwrites the last; the first one has no byte after it.
    for (std::int64_t x = 1; x < pixels - 1; ++x)
        std::memcpy(to + x * 3, source -= 3, 4);
    std::copy_n(from, 3, to + (pixels - 1) * 3);
}

void mirror(const std::uint8_t* from, std::int64_t pixels, std::int64_t channels, std::uint8_t* to) {
    if (channels == 1)
        return mirror_gray(from, pixels, to);
    if (channels == 3)
        return mirror_color(from, pixels, to);
    for (std::int64_t x = 0; x < pixels; ++x)
        std::copy_n(from + (pixels - 1 - x) * channels, channels, to + x * channels);
}

}  // namespace

CropFlip draw_crop_flip(std::uint32_t word) {
    constexpr std::int64_t kPlaces = 2 * kCropMargin + 1;
    const auto variation = static_cast<std::int64_t>(std::uint64_t{word} * (kPlaces * kPlaces * 2) >> 32);
    return {variation / 2 / kPlaces - kCropMargin, variation / 2 % kPlaces - kCropMargin, variation % 2 != 0};
}

void crop_flip(const ImageExtent& extent, const std::uint8_t* image, const CropFlip& variation, std::uint8_t* out) {
    const auto [height, width, channels] = extent;
    const auto [down, right, mirrored] = variation;
    std::fill_n(out, height * width * channels, std::uint8_t{0});
    // Columns of the window that show the image; their mirror images are the columns width - last .. width - first.
    const std::int64_t first = std::max<std::int64_t>(0, -right);
    const std::int64_t last = std::min(width, width - right);
    if (first >= last)
        return;
    for (std::int64_t y = std::max<std::int64_t>(0, -down); y < std::min(height, height - down); ++y) {
        const std::uint8_t* const from = image + ((y + down) * width + first + right) * channels;
        std::uint8_t* const to = out + (y * width + (mirrored ? width - last : first)) * channels;
        if (mirrored)
            mirror(from, last - first, channels, to);
        else
            std::copy_n(from, (last - first) * channels, to);
    }
}

}  // namespace detail
}  // namespace dither
