// sign, with error feedback (Seide et al., "1-bit stochastic gradient descent", Interspeech 2014; Karimireddy et al.,
// "Error feedback fixes SignSGD and other gradient compression schemes", ICML 2019): of each layer p of d values,
//
//     C(p) = ||p||_1 / d * sgn(p),     sgn(0) = 1
//
// which is biased; who encodes adds p - C(p) to the next p (node/error_feedback.hpp).
#include "core/little_endian.hpp"
#include "core/simd.hpp"
#include "transport/detail/codecs.hpp"
#include "transport/detail/fixed_point.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace dither::detail {
namespace {

constexpr std::size_t kBits = 8;  // of a byte
static_assert(kFixedPointChunk % kBits == 0);

std::size_t sign_bytes(std::size_t count) {
    return (count + kBits - 1) / kBits;
}

/// ||x||_1 / count, over 8 interleaved lanes.
DITHER_CLONES double mean_magnitude(const float* x, std::size_t count) {
    constexpr std::size_t kLanes = 8;
    std::array<double, kLanes> sums{};
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (std::size_t lane = 0; lane < kLanes; ++lane)
            sums[lane] += static_cast<double>(std::fabs(x[i + lane]));
    for (std::size_t lane = 0; i < count; ++i, ++lane)
        sums[lane] += static_cast<double>(std::fabs(x[i]));
    double total = 0;
    for (const double sum : sums)
        total += sum;
    return count == 0 ? 0 : total / static_cast<double>(count);
}

/// Bit k of byte j is 1 where x[8 j + k] < 0.
DITHER_CLONES void pack_signs(const float* x, std::size_t bytes, std::uint8_t* out) {
    for (std::size_t j = 0; j < bytes; ++j) {
        std::uint32_t byte = 0;
        for (std::size_t k = 0; k < kBits; ++k)
            byte |= (x[kBits * j + k] < 0 ? 1U : 0U) << k;
        out[j] = static_cast<std::uint8_t>(byte);
    }
}

DITHER_CLONES void unpack_signs(const std::uint8_t* bytes, std::size_t count, float scale, float* out) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(scale);
    for (std::size_t j = 0; j < count; ++j)
        for (std::size_t k = 0; k < kBits; ++k)
            out[kBits * j + k] = std::bit_cast<float>(bits | (static_cast<std::uint32_t>(bytes[j]) >> k) << 31);
}

class SignCodec final : public FixedPointCodec {
public:
    using FixedPointCodec::FixedPointCodec;

    std::string_view name() const override { return "sign"; }
    bool is_biased() const override { return true; }

    void encode(std::span<const float> values, const Terms& /*terms*/, std::vector<std::byte>& out) const override {
        check_values(values);
        out.clear();
        for (std::size_t layer = 0; layer < schema().layer_count(); ++layer)
            encode_layer(schema().slice(values, layer), out);
    }

private:
    static void encode_layer(std::span<const float> values, std::vector<std::byte>& out) {
        const std::size_t begin = out.size();
        out.resize(begin + sizeof(float) + sign_bytes(values.size()));
        store_little(static_cast<float>(mean_magnitude(values.data(), values.size())), out.data() + begin);
        auto* bytes = reinterpret_cast<std::uint8_t*>(out.data() + begin + sizeof(float));
        const std::size_t whole = values.size() / kBits;
        pack_signs(values.data(), whole, bytes);
        std::array<float, kBits> rest{};
        std::copy(values.begin() + whole * kBits, values.end(), rest.begin());
        if (whole < sign_bytes(values.size()))
            pack_signs(rest.data(), 1, bytes + whole);
    }

    void read(std::span<const std::byte> payload, const Terms& /*terms*/, FloatSink& sink) const override {
        for_each_section(
            payload, [](std::size_t count) { return sizeof(float) + sign_bytes(count); },
            [&](std::size_t layer, std::span<const std::byte> section) { read_layer(layer, section, sink); });
    }

    void read_layer(std::size_t layer, std::span<const std::byte> section, FloatSink& sink) const {
        const auto scale = load_little<float>(section.data());
        check(std::isfinite(scale) && !std::signbit(scale), layer, "a scale of {}", scale);
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(section.data()) + sizeof(scale);
        const std::size_t count = schema().layers()[layer].count;
        check(count % kBits == 0 || bytes[count / kBits] >> count % kBits == 0, layer, "the padding is not zero");
        std::array<float, kFixedPointChunk> values;
        for (std::size_t offset = 0; offset < count; offset += values.size()) {
            const std::size_t size = std::min(values.size(), count - offset);
            unpack_signs(bytes + offset / kBits, sign_bytes(size), scale, values.data());
            sink.add(layer, offset, std::span(values).first(size));
        }
    }
};

}  // namespace

std::unique_ptr<Codec> make_sign_codec(const CodecOptions& /*options*/, const Schema& schema) {
    return std::make_unique<SignCodec>(schema);
}

}  // namespace dither::detail
