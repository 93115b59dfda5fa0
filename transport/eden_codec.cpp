// eden: a random rotation, then the quantizer of least error for the Gaussian that it leaves, then one scale a layer
// that makes the result unbiased (Vargaftik et al., "EDEN", ICML 2022). detail/rotated_layer.hpp has the equations.
//
// Coordinates are exchangeable after the rotation, so a rate of b + f bits takes b + 1 bits for the first f of them and
// b for the others; below 1 bit, the others are not sent and count as 0: a random sparsification whose choice is the
// rotation. README.md has the bytes.
#include "core/config.hpp"
#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "core/simd.hpp"
#include "transport/detail/bit_stream.hpp"
#include "transport/detail/codecs.hpp"
#include "transport/detail/fixed_point.hpp"
#include "transport/detail/lloyd_max.hpp"
#include "transport/detail/rotated_layer.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <vector>

namespace dither::detail {
namespace {

constexpr std::size_t kChunk = 1024;  // a multiple of 8, so that pieces end with whole bytes
constexpr std::size_t kLanes = 8;
constexpr std::size_t kScaleBytes = sizeof(float);
/// Of a layer are sent, or all: the scale of fewer would now and then be huge.
constexpr std::size_t kFewestSent = kFewestRotated;

/// So many adjacent coordinates in codes of `bits`.
struct Run {
    std::size_t count = 0;
    unsigned bits = 0;

    std::size_t bytes() const { return packed_bytes(count, bits); }
};

/// The runs of a layer, in order.
std::array<Run, 2> runs_of(std::size_t count, double rate) {
    const auto bits = static_cast<unsigned>(rate);
    const auto promised = static_cast<std::size_t>(rate * static_cast<double>(count));
    const std::size_t longer = std::max(promised - bits * count, bits == 0 ? std::min(count, kFewestSent) : 0);
    return {{{longer, bits + 1}, {count - longer, bits}}};
}

/// The quantizer of one width.
struct Levels {
    explicit Levels(unsigned width) : bits(width), magnitudes(lloyd_max_levels(width)) {
        for (std::size_t i = 0; i + 1 < magnitudes.size(); ++i)
            thresholds[i] = 0.5F * (magnitudes[i] + magnitudes[i + 1]);
    }
    unsigned bits;
    std::span<const float> magnitudes;
    std::array<float, std::size_t{1} << (kMostLloydMaxBits - 1)> thresholds{};
};

/// In interleaved lanes.
struct LaneSums {
    std::array<double, kLanes> products{};  ///< of values and levels
    std::array<double, kLanes> squares{};   ///< of levels

    SentProducts total() const {
        return {std::accumulate(products.begin(), products.end(), 0.0),
                std::accumulate(squares.begin(), squares.end(), 0.0)};
    }
};

/// codes[i]: the level nearest to z[i] * gain, its upper bit the sign. `sizes` is memory.
DITHER_CLONES void quantize(const float* z, std::size_t count, float gain, const Levels& levels, float* sizes,
                            std::uint32_t* codes, LaneSums& sums) {
    const unsigned sign_at = levels.bits - 1;
    for (std::size_t i = 0; i < count; ++i) {
        sizes[i] = std::abs(z[i] * gain);
        codes[i] = 0;
    }
    for (std::size_t j = 0; j + 1 < levels.magnitudes.size(); ++j) {
        const float threshold = levels.thresholds[j];
        for (std::size_t i = 0; i < count; ++i)
            codes[i] += sizes[i] >= threshold ? 1U : 0U;
    }
    const float* magnitudes = levels.magnitudes.data();
    LaneSums lanes;
    const auto add = [&](std::size_t at, std::size_t lane) {
        const double magnitude = magnitudes[codes[at]];
        lanes.products[lane] += static_cast<double>(sizes[at]) * magnitude;
        lanes.squares[lane] += magnitude * magnitude;
    };
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (std::size_t lane = 0; lane < kLanes; ++lane)
            add(i + lane, lane);
    for (std::size_t lane = 0; i < count; ++i, ++lane)
        add(i, lane);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        sums.products[lane] += lanes.products[lane];
        sums.squares[lane] += lanes.squares[lane];
    }
    for (std::size_t j = 0; j < count; ++j)
        codes[j] |= std::bit_cast<std::uint32_t>(z[j]) >> 31 << sign_at;
}

/// Every level of a width by its code.
std::vector<float> table_of(unsigned bits) {
    std::vector<float> table;
    for (const float sign : {1.0F, -1.0F})
        for (const float magnitude : lloyd_max_levels(bits))
            table.push_back(sign * magnitude);
    return table;
}

class EdenCodec final : public FixedPointCodec {
public:
    EdenCodec(const Schema& schema, double rate) : FixedPointCodec(schema), rate_(rate) {}

    std::string_view name() const override { return "eden"; }
    bool is_biased() const override { return false; }

    void encode(std::span<const float> values, const Terms& terms, std::vector<std::byte>& out) const override {
        check_values(values);
        out.clear();
        out.reserve(payload_bytes() + sizeof(std::uint64_t));
        RotationFrame frame(largest_layer(schema()), terms.key);
        for (std::size_t layer = 0; layer < schema().layer_count(); ++layer) {
            const std::span<const float> x = schema().slice(values, layer);
            if (x.size() < kFewestRotated)
                append_as_is(x, out);
            else
                encode_layer(frame.rotate(x, static_cast<std::uint32_t>(layer)), out);
        }
    }

private:
    void encode_layer(const RotatedLayer& rotated, std::vector<std::byte>& out) const {
        const std::size_t at = out.size();
        out.resize(at + kScaleBytes);
        LaneSums sums;
        std::span<const float> left = rotated.z;
        for (const Run& run : runs_of(rotated.z.size(), rate_)) {
            if (rotated.gain == 0)
                out.resize(out.size() + run.bytes());
            else if (run.count > 0 && run.bits > 0)
                encode_run(left.first(run.count), rotated.gain, Levels(run.bits), sums, out);
            left = left.subspan(run.count);
        }
        store_little(rotated.gain == 0 ? 0.0F : unbiased_scale(rotated, sums.total()), out.data() + at);
    }

    static void encode_run(std::span<const float> z, float gain, const Levels& levels, LaneSums& sums,
                           std::vector<std::byte>& out) {
        std::array<std::uint32_t, kChunk> codes;
        std::array<float, kChunk> sizes;
        for (; !z.empty(); z = z.subspan(std::min(kChunk, z.size()))) {
            const std::size_t count = std::min(kChunk, z.size());
            quantize(z.data(), count, gain, levels, sizes.data(), codes.data(), sums);
            pack_bits(std::span(codes).first(count), levels.bits, out);
        }
    }

    void read(std::span<const std::byte> payload, const Terms& terms, FloatSink& sink) const override {
        check_size(payload, payload_bytes());
        RotationFrame frame(largest_layer(schema()), terms.key);
        for (std::size_t layer = 0; layer < schema().layer_count(); ++layer) {
            const std::span<float> q = frame.codes(schema().layers()[layer].count);
            const std::size_t bytes = layer_bytes(q.size());
            if (q.size() < kFewestRotated)
                load_as_is(payload.first(bytes), q);
            else
                decode_layer(payload.first(bytes), layer, frame, q);
            sink.add(layer, 0, q);
            payload = payload.subspan(bytes);
        }
    }

    void decode_layer(std::span<const std::byte> bytes, std::size_t layer, RotationFrame& frame,
                      std::span<float> q) const {
        const auto scale = load_little<float>(bytes.data());
        check(std::isfinite(scale) && !std::signbit(scale), layer, "a scale of {}", scale);
        bytes = bytes.subspan(kScaleBytes);
        std::span<float> left = q;
        for (const Run& run : runs_of(q.size(), rate_)) {
            decode_run(bytes.first(run.bytes()), run, layer, left.first(run.count));
            bytes = bytes.subspan(run.bytes());
            left = left.subspan(run.count);
        }
        frame.restore(q, static_cast<std::uint32_t>(layer), scale);
    }

    void decode_run(std::span<const std::byte> bytes, const Run& run, std::size_t layer, std::span<float> q) const {
        if (run.bits == 0 || run.count == 0)
            return std::fill(q.begin(), q.end(), 0.0F);
        const std::vector<float> table = table_of(run.bits);
        BitReader reader(bytes, run.bits);
        std::array<std::uint32_t, kChunk> codes;
        for (std::size_t offset = 0; offset < q.size(); offset += kChunk) {
            const auto piece = q.subspan(offset, std::min(kChunk, q.size() - offset));
            reader.next(std::span(codes).first(piece.size()));
            for (std::size_t i = 0; i < piece.size(); ++i)
                piece[i] = table[codes[i]];
        }
        check(reader.only_padding_left(), layer, "the padding is not zero");
    }

    std::size_t layer_bytes(std::size_t count) const {
        if (count < kFewestRotated)
            return count * sizeof(float);
        const auto runs = runs_of(count, rate_);
        return kScaleBytes + runs[0].bytes() + runs[1].bytes();
    }

    std::size_t payload_bytes() const {
        std::size_t bytes = 0;
        for (const LayerSpec& layer : schema().layers())
            bytes += layer_bytes(layer.count);
        return bytes;
    }

    double rate_;
};

}  // namespace

std::unique_ptr<Codec> make_eden_codec(const CodecOptions& options, const Schema& schema) {
    return std::make_unique<EdenCodec>(schema, rotated_rate(options, "eden"));
}

}  // namespace dither::detail
