// Decoding of image files.
#pragma once

#include "core/tensor.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dither::detail {

/// The whole of a PNG, JPEG, BMP, PGM or PPM file (the latter two of bytes); transparency is dropped, and 16 bits
/// become 8.
struct Image {
    Shape shape;                       ///< [1, height, width, channels], of 1 (gray) or 3 (RGB) channels
    std::vector<std::uint8_t> pixels;  ///< [height, width, channels]
};

/// Throws InputError that names `path` when it is no such image, or when it has another shape than `expected`, unless
/// that is of rank 0.
Image decode_image(std::span<const std::uint8_t> file, const std::string& path, const Shape& expected);

}  // namespace dither::detail
