// What the tests of codecs share: small schemas, payloads, and the one story that a codec must tell of a payload.
#pragma once

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/vector_math.hpp"
#include "transport/codec.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dither::test {

using Bytes = std::vector<std::byte>;

inline Schema schema_of(std::span<const std::size_t> counts) {
    std::vector<LayerSpec> layers;
    std::size_t offset = 0;
    for (const std::size_t count : counts) {
        const auto name = "fc" + std::to_string(layers.size() + 1);
        const Shape shape{static_cast<std::int64_t>(count)};
        layers.push_back({.name = name, .offset = offset, .count = count, .tensors = {{"weight", shape, offset}}});
        offset += count;
    }
    return Schema(std::move(layers));
}

inline Schema schema_of(std::initializer_list<std::size_t> counts) {
    return schema_of(std::span(counts.begin(), counts.size()));
}

inline StreamKey key_of(std::uint32_t seed) {
    return {.seed = seed, .purpose = Purpose::test};
}

inline std::vector<float> normal_values(std::size_t count, std::uint32_t seed, float scale = 1) {
    std::vector<float> values(count);
    Stream(key_of(seed)).fill_normal(values);
    for (float& value : values)
        value *= scale;
    return values;
}

inline Bytes encoded(const Codec& codec, std::span<const float> values, const Terms& terms = {}) {
    Bytes payload(3, std::byte{0xff});  // encode overwrites
    codec.encode(values, terms, payload);
    return payload;
}

inline std::vector<float> decoded(const Codec& codec, const Bytes& payload, std::size_t count,
                                  const Terms& terms = {}) {
    std::vector<float> values(count, std::numeric_limits<float>::quiet_NaN());
    codec.decode(payload, terms, values);
    return values;
}

/// Puts the integers of all layers into one vector and checks that they come in order and whole.
class Collector final : public IntegerSink {
public:
    explicit Collector(const Schema& schema) : schema_(schema) {}
    void add(std::size_t layer, std::size_t offset, std::span<const std::int32_t> codes) override {
        append(layer, offset, codes);
    }
    void add(std::size_t layer, std::size_t offset, std::span<const std::int64_t> codes) override {
        append(layer, offset, codes);
    }
    const std::vector<std::int64_t>& codes() const { return codes_; }

private:
    template <typename Code>
    void append(std::size_t layer, std::size_t offset, std::span<const Code> codes) {
        CHECK(schema_.layers()[layer].offset + offset == codes_.size());
        codes_.insert(codes_.end(), codes.begin(), codes.end());
    }

    const Schema& schema_;
    std::vector<std::int64_t> codes_;
};

inline std::vector<std::int64_t> integers(const Codec& codec, const Schema& schema, const Bytes& payload,
                                          const Terms& terms = {}) {
    Collector sink(schema);
    codec.accumulate(payload, terms, sink);
    CHECK(sink.codes().size() == schema.parameters());
    return sink.codes();
}

/// decode, validate and accumulate must tell the same story about a payload: integers times their unit are the values,
/// up to the resolution of fp32 and of fixed point, the largest ones bound them, and the norm is theirs.
inline void check_consistent(const Codec& codec, const Schema& schema, const Bytes& payload, const Terms& terms = {}) {
    const auto values = decoded(codec, payload, schema.parameters(), terms);
    const auto codes = integers(codec, schema, payload, terms);
    std::vector<std::uint64_t> largest(schema.layer_count(), 99);
    const double squares = codec.validate(payload, terms, largest);
    CHECK(squares == doctest::Approx(squared_norm(values)).epsilon(1e-6));
    for (std::size_t layer = 0; layer < schema.layer_count(); ++layer) {
        const double unit = codec.unit(layer, terms.steps);
        const LayerSpec& spec = schema.layers()[layer];
        double worst = 0;
        std::uint64_t most = 0;
        for (std::size_t j = spec.offset; j < spec.offset + spec.count; ++j) {
            const double value = values[j];
            const double error = std::abs(static_cast<double>(codes[j]) * unit - value);
            worst = std::max(worst, error - std::max(0x1p-41, std::abs(value) * 0x1p-24));
            most = std::max(most, static_cast<std::uint64_t>(std::abs(codes[j])));
        }
        CAPTURE(layer);
        CHECK(worst <= 0);
        CHECK(largest[layer] >= most);
    }
}

inline void refuse(const Codec& codec, const Schema& schema, const Bytes& payload, const Terms& terms = {}) {
    std::vector<float> values(schema.parameters());
    std::vector<std::uint64_t> largest(schema.layer_count());
    CHECK_THROWS_AS(codec.decode(payload, terms, values), FormatError);
    CHECK_THROWS_AS(codec.validate(payload, terms, largest), FormatError);
}

inline Bytes bytes_of(std::initializer_list<int> values) {
    Bytes bytes;
    for (const int value : values)
        bytes.push_back(static_cast<std::byte>(value));
    return bytes;
}

/// ||decoded - values||^2 / ||values||^2.
inline double distortion(std::span<const float> values, std::span<const float> decoded) {
    double error = 0;
    double norm = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        error += std::pow(static_cast<double>(decoded[i]) - static_cast<double>(values[i]), 2);
        norm += std::pow(static_cast<double>(values[i]), 2);
    }
    return error / norm;
}

/// The mean of decode(encode(values)) over streams 0 .. count - 1 must lie within 5 of its own deviations everywhere.
inline void check_unbiased(const Codec& codec, std::span<const float> values, std::uint32_t count,
                           std::span<const float> steps = {}) {
    std::vector<double> sums(values.size());
    std::vector<double> squares(values.size());
    for (std::uint32_t seed = 0; seed < count; ++seed) {
        const Terms terms{.steps = steps, .key = key_of(seed)};
        const auto back = decoded(codec, encoded(codec, values, terms), values.size(), terms);
        for (std::size_t j = 0; j < values.size(); ++j) {
            const double error = static_cast<double>(back[j]) - static_cast<double>(values[j]);
            sums[j] += error;
            squares[j] += error * error;
        }
    }
    for (std::size_t j = 0; j < values.size(); ++j) {
        CAPTURE(values[j]);
        CHECK(std::abs(sums[j]) <= 5 * std::sqrt(squares[j]) + count * std::abs(static_cast<double>(values[j])) * 1e-6);
    }
}

}  // namespace dither::test
