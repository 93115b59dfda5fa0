// Images for benchmarks: the size and the sparsity of Fashion-MNIST (half the pixels are 0), from a keyed stream.
#pragma once

#include "core/data/dataset.hpp"
#include "core/rng.hpp"

namespace dither {

inline Dataset made_up_images(std::size_t count, const Shape& image = {1, 28, 28, 1}) {
    Stream stream({.seed = 5, .purpose = Purpose::test});
    std::vector<std::uint8_t> pixels(count * static_cast<std::size_t>(image.count()));
    for (std::uint8_t& pixel : pixels) {
        const std::uint32_t word = stream();
        pixel = (word & 0x100U) != 0 ? static_cast<std::uint8_t>(word) : 0;
    }
    std::vector<std::int32_t> labels(count);
    for (std::size_t i = 0; i < count; ++i)
        labels[i] = static_cast<std::int32_t>(i % 10);
    return Dataset(image, std::move(pixels), std::move(labels), 10, 0.286F, 0.353F);
}

}  // namespace dither
