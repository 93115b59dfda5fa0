// The values that formulas.py makes, as fp32.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>

namespace dither::golden {

/// base + scale * sin(0.7 i + 0.0001 i^2) for i = first, first + 1, ...
inline void fill_wave(std::span<float> values, std::size_t first, double scale, double base = 0) {
    for (std::size_t k = 0; k < values.size(); ++k) {
        const auto i = static_cast<double>(first + k);
        values[k] = static_cast<float>(base + scale * std::sin(0.7 * i + 0.0001 * i * i));
    }
}

/// scale * cos(0.013 i + 0.00001 i^2)
inline void fill_slow_wave(std::span<float> values, double scale = 1) {
    for (std::size_t k = 0; k < values.size(); ++k) {
        const auto i = static_cast<double>(k);
        values[k] = static_cast<float>(scale * std::cos(0.013 * i + 0.00001 * i * i));
    }
}

}  // namespace dither::golden
