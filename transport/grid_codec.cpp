// grid: stochastic rounding onto the multiples of the layer's step, which all clients of a round share; the integers
// are packed, compressed, or coded by a model of what both ends know (detail/grid_model.hpp). README.md has the bytes.
#include "core/config.hpp"
#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "core/simd.hpp"
#include "transport/detail/codecs.hpp"
#include "transport/detail/grid_rounding.hpp"
#include "transport/detail/grid_sections.hpp"
#include "transport/detail/grid_stream.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace dither::detail {
namespace {

enum class Coder { context, zstd, packed };

/// Bits that the context coder saves on a coordinate of packed codes, over the seconds that it takes to code and decode
/// it (tests/bench/grid.cpp measures both). On a faster link packed codes are there sooner: the break-even bandwidth.
constexpr double kSavedBits = 3;
constexpr double kSecondsACoordinate = 60e-9;
constexpr double kBreakEven = kSavedBits / kSecondsACoordinate / 1e6;  // Mb/s

Coder coder_of(const CodecOptions& options) {
    if (options.coder == "packed")
        return Coder::packed;
    if (options.coder == "zstd")
        return Coder::zstd;
    if (options.coder == "context" || (options.coder == "auto" && options.bandwidth < kBreakEven))
        return Coder::context;
    if (options.coder == "auto")
        return Coder::packed;
    throw InputError(fmt::format("codec coder {}: expected context, zstd, packed or auto", options.coder));
}

/// With the context coder integers are multiples of step / kFine, in every form, so that all of a round can be summed.
constexpr std::uint32_t kFine = 256;

/// The first byte of a payload of the context coder.
enum class Form : std::uint8_t { sections = 0, modelled = 1, modelled_with_expectation = 2 };

/// One rounding, of the product in double precision.
DITHER_CLONES void scale_chunk(const std::int32_t* codes, std::size_t count, double unit, float* out) {
    for (std::size_t i = 0; i < count; ++i)
        out[i] = static_cast<float>(static_cast<double>(codes[i]) * unit);
}
void scale_chunk(const std::int64_t* codes, std::size_t count, double unit, float* out) {
    for (std::size_t i = 0; i < count; ++i)
        out[i] = static_cast<float>(static_cast<double>(codes[i]) * unit);
}

DITHER_CLONES std::uint32_t largest_of(const std::int32_t* codes, std::size_t count) {
    std::uint32_t largest = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto sign = static_cast<std::uint32_t>(codes[i] >> 31);
        largest = std::max(largest, (static_cast<std::uint32_t>(codes[i]) ^ sign) - sign);
    }
    return largest;
}
std::uint64_t largest_magnitude(std::span<const std::int32_t> codes) {
    return largest_of(codes.data(), codes.size());
}
std::uint64_t largest_magnitude(std::span<const std::int64_t> codes) {
    const auto [least, most] = std::ranges::minmax(codes);
    return static_cast<std::uint64_t>(std::max(-least, most));
}

/// The sum of squares, over interleaved lanes: the same order on every machine.
template <typename Code>
double squares_of(const Code* codes, std::size_t count) {
    std::array<double, 8> sums{};
    const std::size_t whole = count - count % sums.size();
    const auto square = [&](std::size_t i) { return static_cast<double>(codes[i]) * static_cast<double>(codes[i]); };
    for (std::size_t i = 0; i < whole; i += sums.size())
        for (std::size_t lane = 0; lane < sums.size(); ++lane)
            sums[lane] += square(i + lane);
    for (std::size_t i = whole; i < count; ++i)
        sums[i - whole] += square(i);
    return std::accumulate(sums.begin(), sums.end(), 0.0);
}
DITHER_CLONES double sum_of_squares(const std::int32_t* codes, std::size_t count) {
    return squares_of(codes, count);
}
double sum_of_squares(const std::int64_t* codes, std::size_t count) {
    return squares_of(codes, count);
}

class GridCodec final : public Codec {
public:
    GridCodec(const Schema& schema, Coder coder) : schema_(schema), coder_(coder) {
        for (const LayerSpec& layer : schema.layers())
            if (layer.count > std::numeric_limits<std::uint32_t>::max() / sizeof(float))
                throw InputError(
                    fmt::format("grid codec: layer {} has {} parameters, more than 2^30 - 1", layer.name, layer.count));
    }

    std::string_view name() const override { return "grid"; }
    bool needs_steps() const override { return true; }
    bool is_biased() const override { return false; }
    double unit(std::size_t layer, GridSteps steps) const override {
        return coder_ == Coder::context ? static_cast<double>(steps[layer]) / kFine : steps[layer];
    }

    void encode(std::span<const float> values, const Terms& terms, std::vector<std::byte>& out) const override {
        require_values(values.size());
        if (const std::string problem = problem_of(terms.steps); !problem.empty())
            throw PreconditionError(problem);
        out.clear();
        if (coder_ != Coder::context)
            return encode_sections(values, terms, out);
        if (encode_modelled(values, terms, out))
            return;
        out.assign(1, static_cast<std::byte>(Form::sections));
        encode_sections(values, terms, out);
    }

    void decode(std::span<const std::byte> payload, const Terms& terms, std::span<float> values) const override {
        require_values(values.size());
        for_each_chunk(payload, terms, [&](std::size_t layer, std::size_t offset, auto codes) {
            scale_chunk(codes.data(), codes.size(), unit(layer, terms.steps),
                        schema_.slice(values, layer).data() + offset);
        });
    }

    double validate(std::span<const std::byte> payload, const Terms& terms,
                    std::span<std::uint64_t> largest) const override {
        require(largest.size() == schema_.layer_count(), "{} entries for {} layers", largest.size(),
                schema_.layer_count());
        std::fill(largest.begin(), largest.end(), std::uint64_t{0});
        double squares = 0;
        for_each_chunk(payload, terms, [&](std::size_t layer, std::size_t, auto codes) {
            largest[layer] = std::max(largest[layer], largest_magnitude(codes));
            const double worth = unit(layer, terms.steps);
            squares += sum_of_squares(codes.data(), codes.size()) * worth * worth;
        });
        return squares;
    }

    void accumulate(std::span<const std::byte> payload, const Terms& terms, IntegerSink& sink) const override {
        for_each_chunk(payload, terms,
                       [&](std::size_t layer, std::size_t offset, auto codes) { sink.add(layer, offset, codes); });
    }

private:
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

    /// Rounds the next values of a layer by the next `words` of its stream; returns the union of `q`, folded.
    std::uint32_t round_chunk(std::size_t layer, std::span<const float> values, float step, Stream& stream,
                              std::span<std::uint32_t> words, std::span<std::int32_t> q) const {
        stream.fill_words(words);
        const Rounded rounded = round_to_grid(values, words, step, q);
        if (rounded.out_of_range != 0) [[unlikely]]
            refuse(layer, values, step);
        return rounded.used_bits;
    }

    [[noreturn]] void refuse(std::size_t layer, std::span<const float> values, float step) const {
        const auto bad =
            std::find_if_not(values.begin(), values.end(), [&](float x) { return std::abs(x / step) < kLargestRatio; });
        throw TrainingError(
            fmt::format("layer {}: {} does not lie within 2^31 steps of {}", schema_.layers()[layer].name, *bad, step));
    }

    void encode_sections(std::span<const float> values, const Terms& terms, std::vector<std::byte>& out) const {
        SectionWriter writer(coder_ != Coder::packed);
        std::array<std::uint32_t, kGridChunk> words;
        std::array<std::int32_t, kGridChunk> codes;
        for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
            const std::span<const float> all = schema_.slice(values, layer);
            Stream stream = dither_words(terms.key, layer);
            writer.begin(all.size(), terms.steps[layer], out);
            for (std::size_t offset = 0; offset < all.size(); offset += kGridChunk) {
                const std::size_t count = std::min(kGridChunk, all.size() - offset);
                const auto q = std::span(codes).first(count);
                const std::uint32_t used_bits = round_chunk(layer, all.subspan(offset, count), terms.steps[layer],
                                                            stream, std::span(words).first(count), q);
                writer.add(q, used_bits, out);
            }
            writer.finish(out);
        }
    }

    /// False where an integer is larger than the model goes, or the payload than it may be. Not wherever packing would
    /// be shorter: a choice that depended on u would bias the control variate.
    bool encode_modelled(std::span<const float> values, const Terms& terms, std::vector<std::byte>& out) const {
        append_header(terms, out);
        RangeEncoder encoder(out);
        GridStream<RangeEncoder> stream(encoder, schema_, terms);
        std::array<std::uint32_t, kGridChunk> words;
        std::array<std::int32_t, kGridChunk> codes;
        for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
            const std::span<const float> all = schema_.slice(values, layer);
            Stream drawn = dither_words(terms.key, layer);
            for (std::size_t offset = 0; offset < all.size(); offset += kGridChunk) {
                const std::size_t count = std::min(kGridChunk, all.size() - offset);
                const auto u = std::span(words).first(count);
                const auto q = std::span(codes).first(count);
                round_chunk(layer, all.subspan(offset, count), terms.steps[layer], drawn, u, q);
                if (largest_magnitude(q) >= kLargestModelled)
                    return false;
                stream.code(layer, u, q);
            }
        }
        encoder.finish();
        return out.size() <= 4 * schema_.parameters() + 64 * schema_.layer_count();
    }

    /// The steps that a payload of the context coder echoes: one, if all are the same.
    static GridSteps echoed(GridSteps steps) {
        const bool same = std::ranges::adjacent_find(steps, std::not_equal_to()) == steps.end();
        return same && !steps.empty() ? steps.first(1) : steps;
    }

    static void append_header(const Terms& terms, std::vector<std::byte>& out) {
        out.push_back(
            static_cast<std::byte>(terms.expectation == nullptr ? Form::modelled : Form::modelled_with_expectation));
        for (const float step : echoed(terms.steps)) {
            out.resize(out.size() + sizeof step);
            store_little(step, out.data() + out.size() - sizeof step);
        }
    }

    /// visit(layer, offset in the layer, codes) for every layer in order, in pieces of at most kGridChunk; throws
    /// FormatError as soon as something is wrong.
    template <typename Visit>
    void for_each_chunk(std::span<const std::byte> payload, const Terms& terms, Visit&& visit) const {
        if (const std::string problem = problem_of(terms.steps); !problem.empty())
            throw FormatError("grid payload: " + problem);
        if (coder_ != Coder::context)
            return read_sections(payload, terms.steps, visit);
        check_grid(!payload.empty(), 0, "the payload is empty");
        const auto form = static_cast<Form>(payload.front());
        payload = payload.subspan(1);
        if (form == Form::sections)
            return read_sections(payload, terms.steps, visit);
        check_grid(form <= Form::modelled_with_expectation, 0, "the form is unknown");
        Terms as_encoded = terms;
        if (form == Form::modelled)
            as_encoded.expectation = nullptr;
        else
            check_grid(terms.expectation != nullptr, 0, "it is coded by an expectation that is not known here");
        read_modelled(payload, as_encoded, visit);
    }

    template <typename Visit>
    void read_sections(std::span<const std::byte> payload, GridSteps steps, Visit& visit) const {
        constexpr unsigned kFits = 23;  // 256 times such an integer is below 2^31
        SectionReader reader(payload);
        for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
            const std::size_t count = schema_.layers()[layer].count;
            reader.open(layer, count, steps[layer]);
            for (std::size_t offset = 0; offset < count; offset += kGridChunk) {
                const std::span<const std::int32_t> q = reader.next();
                if (coder_ != Coder::context)
                    visit(layer, offset, q);
                else if (reader.width() <= kFits)
                    visit_fine<std::int32_t>(layer, offset, q, visit);
                else
                    visit_fine<std::int64_t>(layer, offset, q, visit);
            }
        }
        check_grid(reader.exhausted(), schema_.layer_count(), "bytes follow the last layer");
    }

    template <typename Code, typename Visit>
    static void visit_fine(std::size_t layer, std::size_t offset, std::span<const std::int32_t> q, Visit& visit) {
        std::array<Code, kGridChunk> codes;
        std::ranges::transform(q, codes.begin(), [](std::int32_t code) { return static_cast<Code>(kFine) * code; });
        visit(layer, offset, std::span<const Code>(codes).first(q.size()));
    }

    template <typename Visit>
    void read_modelled(std::span<const std::byte> payload, const Terms& terms, Visit& visit) const {
        for (const float step : echoed(terms.steps)) {
            check_grid(payload.size() >= sizeof step, 0, "the payload is cut off");
            check_grid(load_little<std::uint32_t>(payload.data()) == std::bit_cast<std::uint32_t>(step), 0,
                       "a step is not the commanded one");
            payload = payload.subspan(sizeof step);
        }
        RangeDecoder decoder(payload);
        GridStream<RangeDecoder> stream(decoder, schema_, terms);
        std::array<std::uint32_t, kGridChunk> words;
        std::array<std::int32_t, kGridChunk> codes;
        for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
            Stream drawn = dither_words(terms.key, layer);
            const std::size_t count = schema_.layers()[layer].count;
            for (std::size_t offset = 0; offset < count; offset += kGridChunk) {
                const auto chunk = std::span(codes).first(std::min(kGridChunk, count - offset));
                drawn.fill_words(std::span(words).first(chunk.size()));
                stream.code(layer, std::span(words).first(chunk.size()), chunk);
                check_grid(!decoder.overran(), layer, "the payload is cut off");
                check_grid(largest_magnitude(chunk) < kFine * kLargestModelled, layer, "an integer is 2^22 or more");
                visit(layer, offset, std::span<const std::int32_t>(chunk));
            }
        }
        check_grid(decoder.at_end(), schema_.layer_count(), "it does not end as its integers do");
    }

    const Schema& schema_;
    Coder coder_;
};

}  // namespace

std::unique_ptr<Codec> make_grid_codec(const CodecOptions& options, const Schema& schema) {
    return std::make_unique<GridCodec>(schema, coder_of(options));
}

}  // namespace dither::detail
