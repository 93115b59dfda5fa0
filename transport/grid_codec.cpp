// grid: stochastic rounding onto the multiples of the layer's step, which all clients of a round share:
//
//     q = floor(x / step) + [u < frac(x / step)]        u uniform in {0, 1, ..., 2^24 - 1} / 2^24
//
// so that E[q * step] = x: off by less than 2^-24 steps, because u is a multiple of that, and by one rounding of
// x / step to fp32 (Gupta et al., "Deep learning with limited numerical precision", ICML 2015; Alistarh et al., "QSGD",
// NeurIPS 2017). The integers q are folded to z = 0, 1, 2, 3, ... for q = 0, -1, 1, -2,
// ... and packed at the width of the layer's largest z, or compressed where that is shorter. README.md has the bytes.
#include "core/error.hpp"
#include "core/simd.hpp"
#include "transport/detail/bit_stream.hpp"
#include "transport/detail/codecs.hpp"
#include "transport/detail/little_endian.hpp"
#include "transport/detail/zstd.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace dither::detail {
namespace {

constexpr std::size_t kChunk = 4096;
constexpr std::size_t kSectionHeaderBytes = 10;
constexpr unsigned kMaxWidth = 32;
constexpr float kLargestRatio = 0x1p31F;  // exclusive

enum class Mode : std::uint8_t { packed = 0, zstd = 1 };

/// What stands before the codes of a layer.
struct Section {
    Mode mode = Mode::packed;
    unsigned width = 0;
    std::size_t bytes = 0;
    float step = 0;
};

struct Rounded {
    std::uint32_t used_bits = 0;     ///< the union of all folded codes
    std::uint32_t out_of_range = 0;  ///< 1 if a ratio was not finite or 2^31 or more
};

DITHER_CLONES Rounded round_chunk(const float* x, const float* u, std::size_t count, float step, std::uint32_t* out) {
    Rounded rounded;
    for (std::size_t i = 0; i < count; ++i) {
        const float ratio = x[i] / step;
        const bool fits = std::abs(ratio) < kLargestRatio;
        const float safe = fits ? ratio : 0.0F;
        const auto truncated = static_cast<std::int32_t>(safe);
        const std::int32_t floor = truncated - (static_cast<float>(truncated) > safe ? 1 : 0);
        const float fraction = safe - static_cast<float>(floor);
        const std::int32_t code = floor + (u[i] < fraction ? 1 : 0);
        out[i] = (static_cast<std::uint32_t>(code) << 1) ^ static_cast<std::uint32_t>(code >> 31);
        rounded.used_bits |= out[i];
        rounded.out_of_range |= fits ? 0U : 1U;
    }
    return rounded;
}

std::int32_t unfold(std::uint32_t folded) {
    return static_cast<std::int32_t>((folded >> 1) ^ (0U - (folded & 1U)));
}

/// One rounding, from the exact product.
DITHER_CLONES void scale_chunk(const std::uint32_t* folded, std::size_t count, double unit, float* out) {
    for (std::size_t i = 0; i < count; ++i) {
        const auto code = static_cast<std::int32_t>((folded[i] >> 1) ^ (0U - (folded[i] & 1U)));
        out[i] = static_cast<float>(static_cast<double>(code) * unit);
    }
}

template <typename... Args>
void check(bool holds, std::size_t layer, fmt::format_string<Args...> problem, Args&&... args) {
    if (!holds) [[unlikely]]
        throw FormatError(
            fmt::format("grid payload, layer {}: {}", layer, fmt::format(problem, std::forward<Args>(args)...)));
}

/// Planes of bytes, the lowest of all codes first: the upper ones are nearly constant, and compress.
unsigned planes_of(unsigned width) {
    return (width + 7) / 8;
}

void split_planes(std::span<const std::uint32_t> folded, unsigned planes, std::vector<std::byte>& out) {
    out.resize(planes * folded.size());
    for (unsigned plane = 0; plane < planes; ++plane) {
        std::byte* to = out.data() + plane * folded.size();
        for (std::size_t i = 0; i < folded.size(); ++i)
            to[i] = static_cast<std::byte>(folded[i] >> (8 * plane));
    }
}

/// Hands out the codes of a layer whose planes are `bytes`.
class PlaneReader {
public:
    PlaneReader(std::span<const std::byte> bytes, unsigned planes)
        : bytes_(bytes), planes_(planes), count_(bytes.size() / planes) {}

    void next(std::span<std::uint32_t> codes) {
        std::fill(codes.begin(), codes.end(), 0U);
        for (unsigned plane = 0; plane < planes_; ++plane) {
            const std::byte* from = bytes_.data() + plane * count_ + position_;
            for (std::size_t i = 0; i < codes.size(); ++i)
                codes[i] |= std::to_integer<std::uint32_t>(from[i]) << (8 * plane);
        }
        position_ += codes.size();
    }
    bool only_padding_left() const { return position_ == count_; }

private:
    std::span<const std::byte> bytes_;
    unsigned planes_;
    std::size_t count_;
    std::size_t position_ = 0;
};

/// visit(offset, folded codes) in pieces; then the checks that need all of them.
template <typename Reader, typename Visit>
void read_codes(Reader reader, const Section& section, std::size_t layer, std::size_t count, Visit&& visit) {
    std::array<std::uint32_t, kChunk> buffer;
    std::uint32_t used_bits = 0;
    for (std::size_t offset = 0; offset < count; offset += kChunk) {
        const auto codes = std::span(buffer).first(std::min(kChunk, count - offset));
        reader.next(codes);
        for (const std::uint32_t code : codes)
            used_bits |= code;
        visit(offset, std::span<const std::uint32_t>(codes));
    }
    check(reader.only_padding_left(), layer, "the padding is not zero");
    check(static_cast<unsigned>(std::bit_width(used_bits)) == section.width, layer, "{} bits are not the width",
          section.width);
}

class GridCodec final : public Codec {
public:
    explicit GridCodec(const Schema& schema) : schema_(schema) {
        for (const LayerSpec& layer : schema.layers())
            if (layer.count > std::numeric_limits<std::uint32_t>::max() / sizeof(float))
                throw InputError(
                    fmt::format("grid codec: layer {} has {} parameters, more than 2^30 - 1", layer.name, layer.count));
    }

    std::string_view name() const override { return "grid"; }
    bool needs_steps() const override { return true; }
    double unit(std::size_t layer, GridSteps steps) const override { return steps[layer]; }

    void encode(std::span<const float> values, GridSteps steps, const StreamKey& key,
                std::vector<std::byte>& out) const override {
        require_values(values.size());
        if (const std::string problem = problem_of(steps); !problem.empty())
            throw PreconditionError(problem);
        out.clear();
        EncodeBuffers buffers;
        for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer)
            encode_layer(layer, schema_.slice(values, layer), steps[layer], key, buffers, out);
    }

    void decode(std::span<const std::byte> payload, GridSteps steps, std::span<float> values) const override {
        require_values(values.size());
        for_each_chunk(payload, steps, [&](std::size_t layer, std::size_t offset, std::span<const std::uint32_t> z) {
            scale_chunk(z.data(), z.size(), unit(layer, steps), schema_.slice(values, layer).data() + offset);
        });
    }

    void validate(std::span<const std::byte> payload, GridSteps steps,
                  std::span<std::uint64_t> largest) const override {
        require(largest.size() == schema_.layer_count(), "{} entries for {} layers", largest.size(),
                schema_.layer_count());
        std::fill(largest.begin(), largest.end(), std::uint64_t{0});
        for_each_chunk(payload, steps, [&](std::size_t layer, std::size_t, std::span<const std::uint32_t> z) {
            const std::uint64_t folded = *std::max_element(z.begin(), z.end());
            largest[layer] = std::max(largest[layer], (folded + 1) / 2);
        });
    }

    void accumulate(std::span<const std::byte> payload, GridSteps steps, IntegerSink& sink) const override {
        std::array<std::int64_t, kChunk> codes;
        for_each_chunk(payload, steps, [&](std::size_t layer, std::size_t offset, std::span<const std::uint32_t> z) {
            std::transform(z.begin(), z.end(), codes.begin(), unfold);
            sink.add(layer, offset, std::span(codes).first(z.size()));
        });
    }

private:
    struct EncodeBuffers {
        std::vector<std::uint32_t> folded;
        std::vector<std::byte> planes;
        std::vector<std::byte> compressed;
        Compressor compressor;
    };

    void require_values(std::size_t count) const {
        require(count == schema_.parameters(), "{} values for a model of {} parameters", count, schema_.parameters());
    }

    /// Why the steps are no grid of this schema; empty if they are.
    std::string problem_of(GridSteps steps) const {
        if (steps.size() != schema_.layer_count())
            return fmt::format("{} steps for {} layers", steps.size(), schema_.layer_count());
        const auto bad = std::find_if_not(steps.begin(), steps.end(),
                                          [](float step) { return step > 0 && step <= kLargestGridStep; });
        return bad == steps.end() ? ""
                                  : fmt::format("step {} of layer {} is outside (0, 2^96]", *bad, bad - steps.begin());
    }

    /// Rounds a layer into `folded`, which is resized, and returns the width of its largest code.
    unsigned round_layer(std::size_t layer, std::span<const float> values, float step, const StreamKey& key,
                         std::vector<std::uint32_t>& folded) const {
        StreamKey layer_key = key;
        layer_key.lane = static_cast<std::uint32_t>(layer);
        Stream stream(layer_key);
        std::array<float, kChunk> uniform;
        std::uint32_t used_bits = 0;
        folded.resize(values.size());
        for (std::size_t offset = 0; offset < values.size(); offset += kChunk) {
            const auto chunk = values.subspan(offset, std::min(kChunk, values.size() - offset));
            stream.fill_uniform(std::span(uniform).first(chunk.size()));
            const Rounded rounded =
                round_chunk(chunk.data(), uniform.data(), chunk.size(), step, folded.data() + offset);
            if (rounded.out_of_range != 0) [[unlikely]]
                refuse(layer, chunk, step);
            used_bits |= rounded.used_bits;
        }
        return static_cast<unsigned>(std::bit_width(used_bits));
    }

    [[noreturn]] void refuse(std::size_t layer, std::span<const float> values, float step) const {
        const auto bad =
            std::find_if_not(values.begin(), values.end(), [&](float x) { return std::abs(x / step) < kLargestRatio; });
        throw TrainingError(
            fmt::format("layer {}: {} does not lie within 2^31 steps of {}", schema_.layers()[layer].name, *bad, step));
    }

    void encode_layer(std::size_t layer, std::span<const float> values, float step, const StreamKey& key,
                      EncodeBuffers& buffers, std::vector<std::byte>& out) const {
        const unsigned width = round_layer(layer, values, step, key, buffers.folded);
        const std::size_t packed = packed_bytes(values.size(), width);
        split_planes(buffers.folded, planes_of(width), buffers.planes);
        if (buffers.compressor.compress(buffers.planes, packed, buffers.compressed)) {
            append_header({Mode::zstd, width, buffers.compressed.size(), step}, out);
            out.insert(out.end(), buffers.compressed.begin(), buffers.compressed.end());
        } else {
            append_header({Mode::packed, width, packed, step}, out);
            pack_bits(buffers.folded, width, out);
        }
    }

    static void append_header(const Section& section, std::vector<std::byte>& out) {
        out.resize(out.size() + kSectionHeaderBytes);
        std::byte* header = out.data() + out.size() - kSectionHeaderBytes;
        store_little(static_cast<std::uint8_t>(section.mode), header);
        store_little(static_cast<std::uint8_t>(section.width), header + 1);
        store_little(static_cast<std::uint32_t>(section.bytes), header + 2);
        store_little(section.step, header + 6);
    }

    /// Takes the header of a layer's section off `rest` and checks all that can be checked without the codes.
    Section read_header(std::size_t layer, float step, std::span<const std::byte>& rest) const {
        check(rest.size() >= kSectionHeaderBytes, layer, "the payload is cut off");
        const auto mode = load_little<std::uint8_t>(rest.data());
        const Section section{static_cast<Mode>(mode), load_little<std::uint8_t>(rest.data() + 1),
                              load_little<std::uint32_t>(rest.data() + 2), load_little<float>(rest.data() + 6)};
        rest = rest.subspan(kSectionHeaderBytes);
        check(mode <= static_cast<std::uint8_t>(Mode::zstd), layer, "mode {} is unknown", mode);
        check(section.width <= kMaxWidth, layer, "a width of {} bits", section.width);
        check(std::bit_cast<std::uint32_t>(section.step) == std::bit_cast<std::uint32_t>(step), layer,
              "the step is not the commanded {}", step);
        const std::size_t packed = packed_bytes(schema_.layers()[layer].count, section.width);
        check(section.mode == Mode::packed ? section.bytes == packed : section.bytes < packed, layer,
              "{} bytes where {} are packed", section.bytes, packed);
        check(section.bytes <= rest.size(), layer, "the payload is cut off");
        return section;
    }

    /// visit(layer, offset in the layer, folded codes) for every layer in order, in pieces of at most kChunk; throws
    /// FormatError as soon as something is wrong.
    template <typename Visit>
    void for_each_chunk(std::span<const std::byte> payload, GridSteps steps, Visit&& visit) const {
        if (const std::string problem = problem_of(steps); !problem.empty())
            throw FormatError("grid payload: " + problem);
        Decompressor decompressor;
        std::vector<std::byte> planes;
        for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
            const Section section = read_header(layer, steps[layer], payload);
            const std::size_t count = schema_.layers()[layer].count;
            const auto data = payload.first(section.bytes);
            const auto visit_layer = [&](std::size_t offset, auto codes) { visit(layer, offset, codes); };
            if (section.mode == Mode::zstd) {
                planes.resize(planes_of(section.width) * count);
                decompressor.decompress(data, planes);
                read_codes(PlaneReader(planes, planes_of(section.width)), section, layer, count, visit_layer);
            } else {
                read_codes(BitReader(data, section.width), section, layer, count, visit_layer);
            }
            payload = payload.subspan(section.bytes);
        }
        check(payload.empty(), schema_.layer_count(), "bytes follow the last layer");
    }

    const Schema& schema_;
};

}  // namespace

std::unique_ptr<Codec> make_grid_codec(const Schema& schema) {
    return std::make_unique<GridCodec>(schema);
}

}  // namespace dither::detail
