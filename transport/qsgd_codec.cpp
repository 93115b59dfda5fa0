// qsgd (Alistarh et al., "QSGD: communication-efficient SGD via gradient quantization and encoding", NeurIPS 2017): in
// buckets v of 512 values,
//
//     Q(v_i) = ||v||_2 * sgn(v_i) * xi_i / s,     xi_i = floor(t) + [u < frac(t)],   t = s |v_i| / ||v||_2
//
// with u uniform on multiples of 2^-24 in [0, 1), so that E[Q(v)] = v. Codes xi * sgn take b bits each, s = 2^(b-1)
// - 1.
#include "core/config.hpp"
#include "core/simd.hpp"
#include "core/vector_math.hpp"
#include "transport/detail/bit_stream.hpp"
#include "transport/detail/codecs.hpp"
#include "transport/detail/fixed_point.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace dither::detail {
namespace {

constexpr std::size_t kBucket = 512;
constexpr unsigned kAutomaticWidth = 4;

std::size_t buckets_of(std::size_t count) {
    return (count + kBucket - 1) / kBucket;
}

/// out[i] = s + sgn(x[i]) * xi_i; norm >= |x[i]|, norm > 0.
DITHER_CLONES void round_bucket(const float* x, const float* u, std::size_t count, float norm, std::int32_t levels,
                                std::uint32_t* out) {
    for (std::size_t i = 0; i < count; ++i) {
        const float level = std::fabs(x[i]) / norm * static_cast<float>(levels);
        const auto floor = static_cast<std::int32_t>(level);
        const std::int32_t rounded = floor + (u[i] < level - static_cast<float>(floor) ? 1 : 0);
        out[i] = static_cast<std::uint32_t>(levels + (x[i] < 0 ? -rounded : rounded));
    }
}

/// Returns the largest code.
DITHER_CLONES std::uint32_t scale_bucket(const std::uint32_t* codes, std::size_t count, double unit,
                                         std::int32_t levels, float* out) {
    std::uint32_t largest = 0;
    for (std::size_t i = 0; i < count; ++i) {
        out[i] = static_cast<float>(unit * (static_cast<std::int32_t>(codes[i]) - levels));
        largest = codes[i] > largest ? codes[i] : largest;
    }
    return largest;
}

class QsgdCodec final : public FixedPointCodec {
public:
    QsgdCodec(const CodecOptions& options, const Schema& schema)
        : FixedPointCodec(schema),
          width_(options.bits == 0 ? kAutomaticWidth : static_cast<unsigned>(options.bits)),
          levels_((1 << (width_ - 1)) - 1) {}

    std::string_view name() const override { return "qsgd"; }
    bool is_biased() const override { return false; }

    void encode(std::span<const float> values, const Terms& terms, std::vector<std::byte>& out) const override {
        check_values(values);
        out.clear();
        std::vector<std::uint32_t> codes;
        for (std::size_t layer = 0; layer < schema().layer_count(); ++layer) {
            StreamKey key = terms.key;
            key.lane = static_cast<std::uint32_t>(layer);
            round_layer(schema().slice(values, layer), key, codes, out);
            pack_bits(codes, width_, out);
        }
    }

private:
    /// Appends the norms to `out` and fills `codes`, which is resized.
    void round_layer(std::span<const float> values, const StreamKey& key, std::vector<std::uint32_t>& codes,
                     std::vector<std::byte>& out) const {
        Stream stream(key);
        std::array<float, kBucket> uniform;
        codes.assign(values.size(), static_cast<std::uint32_t>(levels_));
        for (std::size_t offset = 0; offset < values.size(); offset += kBucket) {
            const auto bucket = values.subspan(offset, std::min(kBucket, values.size() - offset));
            const float norm = norm_of(bucket);
            out.resize(out.size() + sizeof(norm));
            store_little(norm, out.data() + out.size() - sizeof(norm));
            stream.fill_uniform(std::span(uniform).first(bucket.size()));
            if (norm > 0)
                round_bucket(bucket.data(), uniform.data(), bucket.size(), norm, levels_, codes.data() + offset);
        }
    }

    static float norm_of(std::span<const float> bucket) {
        const double norm = std::sqrt(squared_norm(bucket));
        if (norm > static_cast<double>(std::numeric_limits<float>::max()))
            throw TrainingError(fmt::format("512 values with a norm of {} are beyond fp32", norm));
        return static_cast<float>(norm);
    }

    std::size_t layer_bytes(std::size_t count) const {
        return sizeof(float) * buckets_of(count) + packed_bytes(count, width_);
    }

    void read(std::span<const std::byte> payload, const Terms& /*terms*/, FloatSink& sink) const override {
        for_each_section(
            payload, [this](std::size_t count) { return layer_bytes(count); },
            [&](std::size_t layer, std::span<const std::byte> section) { read_layer(layer, section, sink); });
    }

    void read_layer(std::size_t layer, std::span<const std::byte> section, FloatSink& sink) const {
        const std::size_t count = schema().layers()[layer].count;
        BitReader reader(section.subspan(sizeof(float) * buckets_of(count)), width_);
        std::array<std::uint32_t, kBucket> codes;
        std::array<float, kBucket> values;
        for (std::size_t offset = 0; offset < count; offset += kBucket) {
            const auto norm = load_little<float>(section.data() + sizeof(float) * (offset / kBucket));
            check(std::isfinite(norm) && !std::signbit(norm), layer, "a norm of {}", norm);
            const std::size_t size = std::min(kBucket, count - offset);
            reader.next(std::span(codes).first(size));
            const std::uint32_t largest =
                scale_bucket(codes.data(), size, static_cast<double>(norm) / levels_, levels_, values.data());
            check(largest <= 2 * static_cast<std::uint32_t>(levels_), layer, "code {} is reserved", largest);
            sink.add(layer, offset, std::span(values).first(size));
        }
        check(reader.only_padding_left(), layer, "the padding is not zero");
    }

    unsigned width_;
    std::int32_t levels_;  ///< s
};

}  // namespace

std::unique_ptr<Codec> make_qsgd_codec(const CodecOptions& options, const Schema& schema) {
    return std::make_unique<QsgdCodec>(options, schema);
}

}  // namespace dither::detail
