#include "transport/detail/fixed_point.hpp"

#include "core/simd.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace dither::detail {
namespace {

/// |value| < 2^22 makes a product below 2^62. It goes through two 32-bit integers, high * 2^31 + low, since there are
/// no vector instructions from double to 64-bit integers before AVX-512.
DITHER_CLONES void convert(const float* values, std::size_t count, std::int64_t* codes) {
    for (std::size_t i = 0; i < count; ++i) {
        const double code = std::rint(static_cast<double>(values[i]) * 0x1p40);
        const auto high = static_cast<std::int32_t>(code * 0x1p-31);
        const auto low = static_cast<std::int32_t>(code - static_cast<double>(high) * 0x1p31);
        codes[i] = static_cast<std::int64_t>(high) * (std::int64_t{1} << 31) + low;
    }
}

class CopyingSink final : public FloatSink {
public:
    CopyingSink(const Schema& schema, std::span<float> values) : schema_(schema), values_(values) {}
    void add(std::size_t layer, std::size_t offset, std::span<const float> values) override {
        std::copy(values.begin(), values.end(), schema_.slice(values_, layer).begin() + offset);
    }

private:
    const Schema& schema_;
    std::span<float> values_;
};

/// Keeps the largest magnitude of each layer, infinite where a value is not finite, and the squared norm of all.
class MeasuringSink final : public FloatSink {
public:
    explicit MeasuringSink(std::size_t layers) : magnitudes_(layers) {}
    void add(std::size_t layer, std::size_t /*offset*/, std::span<const float> values) override {
        const float magnitude = max_magnitude(values);
        constexpr float kInfinity = std::numeric_limits<float>::infinity();
        magnitudes_[layer] = std::max(magnitudes_[layer], std::isfinite(magnitude) ? magnitude : kInfinity);
        squares_ += squared_norm(values);
    }
    double squares() const { return squares_; }
    std::span<const float> magnitudes() const { return magnitudes_; }

private:
    std::vector<float> magnitudes_;
    double squares_ = 0;
};

class ConvertingSink final : public FloatSink {
public:
    explicit ConvertingSink(IntegerSink& sink) : sink_(sink) {}
    void add(std::size_t layer, std::size_t offset, std::span<const float> values) override {
        for (std::size_t done = 0; done < values.size(); done += kFixedPointChunk) {
            const auto piece = values.subspan(done, std::min(kFixedPointChunk, values.size() - done));
            const auto codes = std::span(codes_).first(piece.size());
            to_fixed_point(piece, codes);
            sink_.add(layer, offset + done, std::span<const std::int64_t>(codes));
        }
    }

private:
    IntegerSink& sink_;
    std::array<std::int64_t, kFixedPointChunk> codes_;
};

}  // namespace

void to_fixed_point(std::span<const float> values, std::span<std::int64_t> codes) {
    require(values.size() == codes.size(), "{} values into {} codes", values.size(), codes.size());
    convert(values.data(), values.size(), codes.data());
}

void FixedPointCodec::decode(std::span<const std::byte> payload, const Terms& terms, std::span<float> values) const {
    require(values.size() == schema_.parameters(), "{} values for a model of {} parameters", values.size(),
            schema_.parameters());
    CopyingSink sink(schema_, values);
    read(payload, terms, sink);
    for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer)
        check(all_finite(schema_.slice(values, layer)), layer, "a value is not finite");
}

double FixedPointCodec::validate(std::span<const std::byte> payload, const Terms& terms,
                                 std::span<std::uint64_t> largest) const {
    require(largest.size() == schema_.layer_count(), "{} entries for {} layers", largest.size(), schema_.layer_count());
    MeasuringSink sink(schema_.layer_count());
    read(payload, terms, sink);
    for (std::size_t layer = 0; layer < largest.size(); ++layer) {
        const float magnitude = sink.magnitudes()[layer];
        check(magnitude < kFixedPointLimit, layer, "a value is not below 2^22");
        std::int64_t code = 0;
        convert(&magnitude, 1, &code);
        largest[layer] = static_cast<std::uint64_t>(code);
    }
    return sink.squares();
}

void FixedPointCodec::accumulate(std::span<const std::byte> payload, const Terms& terms, IntegerSink& sink) const {
    ConvertingSink converting(sink);
    read(payload, terms, converting);
}

void FixedPointCodec::check_values(std::span<const float> values) const {
    require(values.size() == schema_.parameters(), "{} values for a model of {} parameters", values.size(),
            schema_.parameters());
    if (all_finite(values))
        return;
    const auto bad = std::find_if_not(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
    throw TrainingError(fmt::format("parameter {} is {}", bad - values.begin(), *bad));
}

void FixedPointCodec::check_size(std::span<const std::byte> payload, std::size_t expected) const {
    if (payload.size() != expected)
        throw FormatError(fmt::format("{} payload: {} bytes, not {}", name(), payload.size(), expected));
}

void FixedPointCodec::refuse(std::size_t layer, std::string_view problem) const {
    throw FormatError(fmt::format("{} payload, layer {}: {}", name(), layer, problem));
}

}  // namespace dither::detail
