// What the tests of the grid codec share.
#pragma once

#include "tests/unit/transport/codecs.hpp"
#include "transport/expectation.hpp"

namespace dither::test {

inline constexpr std::size_t kSectionHeader = 10;

inline std::unique_ptr<Codec> grid(const Schema& schema, const std::string& coder) {
    return make_codec({.kind = "grid", .coder = coder}, schema);
}

inline Terms terms_of(GridSteps steps, std::uint32_t seed = 1) {
    return {.steps = steps, .key = key_of(seed)};
}

/// A convolution with a bias and a linear layer: 3 * 3 * 8 rows of 16, a vector, and 400 rows of 30.
inline Schema matrices() {
    std::vector<LayerSpec> layers;
    layers.push_back({.name = "conv1",
                      .offset = 0,
                      .count = 1168,
                      .tensors = {{"weight", Shape{3, 3, 8, 16}, 0}, {"bias", Shape{16}, 1152}}});
    layers.push_back({.name = "fc1", .offset = 1168, .count = 12'000, .tensors = {{"weight", Shape{400, 30}, 1168}}});
    return Schema(std::move(layers));
}

/// Heavy-tailed: each row and column has a scale of its own; a tenth of the rows is zero.
inline std::vector<float> structured_values(const Schema& schema, std::uint32_t seed) {
    std::vector<float> values = normal_values(schema.parameters(), seed);
    for (const LayerSpec& layer : schema.layers())
        for (const TensorSpec& tensor : layer.tensors) {
            const MatrixExtents extents = MatrixExtents::of(tensor.shape);
            for (std::size_t i = 0; i < extents.rows * extents.columns; ++i) {
                const std::size_t row = i / extents.columns;
                const std::size_t column = i % extents.columns;
                const int exponent = static_cast<int>(row * 7 % 5 + column * 3 % 4) - 4;
                float& value = values[tensor.offset + i];
                value = row % 10 == 9 ? 0.0F : std::ldexp(value * value * value, exponent);
            }
        }
    return values;
}

/// The q behind multiples of step / 256 that carry a control variate of at most half a step.
inline std::int64_t nearest_integer(std::int64_t fine) {
    return (fine + 128 + (fine < 0 ? -1 : 0)) >> 8;
}

inline int mode_of(const Bytes& payload) {
    return std::to_integer<int>(payload[0]);
}
inline unsigned width_of(const Bytes& payload) {
    return std::to_integer<unsigned>(payload[1]);
}

}  // namespace dither::test
