// terngrad (Wen et al., "TernGrad: ternary gradients to reduce communication in distributed deep learning", NeurIPS
// 2017): of each layer x,
//
//     Q(x_i) = m * sgn(x_i) * b_i,     m = max |x|,   b_i = [u < |x_i| / m]
//
// with u uniform on multiples of 2^-24 in [0, 1), so that E[Q(x)] = x. Five trits make a byte, 3^5 = 243.
#include "core/little_endian.hpp"
#include "core/simd.hpp"
#include "core/vector_math.hpp"
#include "transport/detail/codecs.hpp"
#include "transport/detail/fixed_point.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace dither::detail {
namespace {

constexpr std::size_t kTrits = 5;  // of a byte
constexpr std::array<std::uint32_t, kTrits> kPowers{1, 3, 9, 27, 81};
constexpr std::uint8_t kReserved = 243;

/// Of a layer: trit i is digit i / n of byte i % n, n being the bytes. So a digit's trits are neighbours, and all
/// loops vectorize.
std::size_t trit_bytes(std::size_t count) {
    return (count + kTrits - 1) / kTrits;
}

/// Trits 0, 1 and 2 stand for 0, m and -m.
DITHER_CLONES void draw_trits(const float* x, const float* u, std::size_t count, float largest, std::uint8_t* trits) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint8_t trit = x[i] < 0 ? 2 : 1;
        trits[i] = u[i] < std::fabs(x[i]) / largest ? trit : std::uint8_t{0};
    }
}

DITHER_CLONES void pack_trits(const std::uint8_t* trits, std::size_t bytes, std::uint8_t* out) {
    for (std::size_t j = 0; j < bytes; ++j)
        out[j] = static_cast<std::uint8_t>(trits[j] + 3 * trits[bytes + j] + 9 * trits[2 * bytes + j] +
                                           27 * trits[3 * bytes + j] + 81 * trits[4 * bytes + j]);
}

/// Digit `digit` of a byte. The quotient is exact: the reciprocal is too large by less than 2^-16 each of 81 x 255.
[[gnu::always_inline]] inline std::uint32_t digit_of(std::uint32_t byte, std::uint32_t reciprocal) {
    const std::uint32_t quotient = byte * reciprocal >> 16;
    return quotient - 3 * (quotient * 21846 >> 16);
}

std::uint32_t reciprocal_of(std::size_t digit) {
    return (0x10000U + kPowers[digit] - 1) / kPowers[digit];
}

DITHER_CLONES void unpack_digit(const std::uint8_t* bytes, std::size_t count, std::uint32_t reciprocal, float largest,
                                float* out) {
    for (std::size_t j = 0; j < count; ++j) {
        const std::uint32_t trit = digit_of(bytes[j], reciprocal);
        const float magnitude = trit == 0 ? 0.0F : largest;
        out[j] = trit == 2 ? -magnitude : magnitude;
    }
}

class TerngradCodec final : public FixedPointCodec {
public:
    using FixedPointCodec::FixedPointCodec;

    std::string_view name() const override { return "terngrad"; }
    bool is_biased() const override { return false; }

    void encode(std::span<const float> values, const Terms& terms, std::vector<std::byte>& out) const override {
        check_values(values);
        out.clear();
        std::vector<std::uint8_t> trits;
        for (std::size_t layer = 0; layer < schema().layer_count(); ++layer) {
            StreamKey key = terms.key;
            key.lane = static_cast<std::uint32_t>(layer);
            encode_layer(schema().slice(values, layer), key, trits, out);
        }
    }

private:
    static void encode_layer(std::span<const float> values, const StreamKey& key, std::vector<std::uint8_t>& trits,
                             std::vector<std::byte>& out) {
        const float largest = max_magnitude(values);
        const std::size_t bytes = trit_bytes(values.size());
        trits.assign(kTrits * bytes, std::uint8_t{0});
        if (largest > 0)
            draw_layer(values, largest, key, trits);
        const std::size_t begin = out.size();
        out.resize(begin + sizeof(largest) + bytes);
        store_little(largest, out.data() + begin);
        pack_trits(trits.data(), bytes, reinterpret_cast<std::uint8_t*>(out.data() + begin + sizeof(largest)));
    }

    static void draw_layer(std::span<const float> values, float largest, const StreamKey& key,
                           std::span<std::uint8_t> trits) {
        Stream stream(key);
        std::array<float, kFixedPointChunk> uniform;
        for (std::size_t offset = 0; offset < values.size(); offset += uniform.size()) {
            const std::size_t count = std::min(uniform.size(), values.size() - offset);
            stream.fill_uniform(std::span(uniform).first(count));
            draw_trits(values.data() + offset, uniform.data(), count, largest, trits.data() + offset);
        }
    }

    void read(std::span<const std::byte> payload, const Terms& /*terms*/, FloatSink& sink) const override {
        for_each_section(
            payload, [](std::size_t count) { return sizeof(float) + trit_bytes(count); },
            [&](std::size_t layer, std::span<const std::byte> section) { read_layer(layer, section, sink); });
    }

    void read_layer(std::size_t layer, std::span<const std::byte> section, FloatSink& sink) const {
        const auto largest = load_little<float>(section.data());
        check(std::isfinite(largest) && !std::signbit(largest), layer, "a scale of {}", largest);
        const std::span bytes(reinterpret_cast<const std::uint8_t*>(section.data()) + sizeof(largest),
                              section.size() - sizeof(largest));
        const std::size_t count = schema().layers()[layer].count;
        check_bytes(layer, bytes, count);
        std::array<float, kFixedPointChunk> values;
        for (std::size_t offset = 0, size = 0; offset < count; offset += size) {
            const std::size_t column = offset % bytes.size();
            size = std::min({values.size(), bytes.size() - column, count - offset});
            unpack_digit(bytes.data() + column, size, reciprocal_of(offset / bytes.size()), largest, values.data());
            sink.add(layer, offset, std::span(values).first(size));
        }
    }

    /// No reserved byte, and 0 where the layer has ended.
    void check_bytes(std::size_t layer, std::span<const std::uint8_t> bytes, std::size_t count) const {
        const bool reserved = std::ranges::any_of(bytes, [](std::uint8_t byte) { return byte >= kReserved; });
        check(!reserved, layer, "a byte above 242 is reserved");
        for (std::size_t i = count; i < kTrits * bytes.size(); ++i)
            check(digit_of(bytes[i % bytes.size()], reciprocal_of(i / bytes.size())) == 0, layer,
                  "the padding is not zero");
    }
};

}  // namespace

std::unique_ptr<Codec> make_terngrad_codec(const CodecOptions& /*options*/, const Schema& schema) {
    return std::make_unique<TerngradCodec>(schema);
}

}  // namespace dither::detail
