#include "transport/detail/rotated_layer.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "core/simd.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace dither::detail {
namespace {

/// A magnitude may come out as large as this, but for rounding.
constexpr double kLargestNorm = 0x1p127;

/// Exact unless the product is below the smallest normal number.
DITHER_CLONES void scale_into(const float* x, std::size_t count, double scale, float* out) {
    for (std::size_t i = 0; i < count; ++i)
        out[i] = static_cast<float>(x[i] * scale);
}

}  // namespace

std::size_t largest_layer(const Schema& schema) {
    std::size_t largest = 0;
    for (const LayerSpec& layer : schema.layers())
        largest = std::max(largest, layer.count);
    return largest;
}

RotationFrame::RotationFrame(std::size_t most_values, const StreamKey& key) : key_(key), values_(most_values) {}

Rotation RotationFrame::rotation(std::size_t count, std::uint32_t lane) const {
    return {count, key_.with(key_.purpose, lane)};
}

std::span<float> RotationFrame::scratch(std::size_t count) {
    if (std::has_single_bit(count))
        return {};
    scratch_.resize(std::max(scratch_.size(), count));
    return std::span(scratch_).first(count);
}

RotatedLayer RotationFrame::rotate(std::span<const float> x, std::uint32_t lane) {
    RotatedLayer rotated{.z = codes(x.size())};
    const float magnitude = max_magnitude(x);
    if (magnitude == 0)
        return rotated;
    rotated.exponent = std::ilogb(magnitude);
    scale_into(x.data(), x.size(), std::ldexp(1.0, -rotated.exponent), rotated.z.data());
    rotation(x.size(), lane).apply(rotated.z, scratch(x.size()));
    rotated.squared_norm = squared_norm(rotated.z);
    rotated.gain = static_cast<float>(std::sqrt(static_cast<double>(x.size()) / rotated.squared_norm));
    return rotated;
}

void RotationFrame::restore(std::span<float> q, std::uint32_t lane, float scale) {
    rotation(q.size(), lane).invert(q, scratch(q.size()));
    scale_into(q.data(), q.size(), scale, q.data());
}

float unbiased_scale(const RotatedLayer& layer, const SentProducts& products) {
    const double scale = std::ldexp(layer.squared_norm * layer.gain / products.with_values, layer.exponent);
    if (!(scale * std::max(std::sqrt(products.squared_norm), 1.0) <= kLargestNorm))
        throw TrainingError("an update is too large to be sent");
    return static_cast<float>(scale);
}

void append_as_is(std::span<const float> values, std::vector<std::byte>& out) {
    std::size_t at = out.size();
    out.resize(at + values.size() * sizeof(float));
    for (const float value : values) {
        store_little(value, out.data() + at);
        at += sizeof value;
    }
}

void load_as_is(std::span<const std::byte> bytes, std::span<float> values) {
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = load_little<float>(bytes.data() + i * sizeof(float));
}

double rotated_rate(const CodecOptions& options, std::string_view codec) {
    if (!(options.rate >= 0 && options.rate <= kHighestRate))
        throw InputError(fmt::format("{} codec: a rate of {} bits a coordinate; expected 0 < rate <= {}, or 0 for {}",
                                     codec, options.rate, kHighestRate, kDefaultRate));
    return options.rate == 0 ? kDefaultRate : options.rate;
}

}  // namespace dither::detail
