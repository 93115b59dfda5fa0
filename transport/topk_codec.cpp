// topk, with error feedback (Aji and Heafield, "Sparse communication for distributed gradient descent", EMNLP 2017;
// Stich et al., "Sparsified SGD with memory", NeurIPS 2018): the k = ceil(share * d) largest magnitudes of the whole
// model's d values, of equal ones the first. Their values travel as bf16, which costs 2^-9 of a value, where leaving
// out the others costs most of the norm; their places as Rice-coded gaps, with a parameter for each layer. What is left
// out makes it biased; who encodes adds it to the next values (node/error_feedback.hpp).
#include "core/config.hpp"
#include "core/little_endian.hpp"
#include "transport/detail/codecs.hpp"
#include "transport/detail/fixed_point.hpp"
#include "transport/detail/half.hpp"
#include "transport/detail/rice.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

namespace dither::detail {
namespace {

constexpr std::size_t kSectionHeaderBytes = sizeof(std::uint32_t) + 1;

/// Magnitudes of floats are in the order of their bits.
std::uint32_t magnitude_bits(float value) {
    return std::bit_cast<std::uint32_t>(value) & 0x7fffffffU;
}

/// Chosen are magnitudes above `bits`, and the first `ties` that are equal.
struct Cut {
    std::uint32_t bits = 0;
    std::size_t ties = 0;

    bool chooses(float value) {
        const std::uint32_t magnitude = magnitude_bits(value);
        return magnitude > bits || (magnitude == bits && ties > 0 && ties-- > 0);
    }
};

/// The digit of `counts` that the k-th largest has, and how many of k fall to it.
Cut cut_counts(std::span<const std::uint32_t> counts, std::size_t k) {
    std::size_t digit = counts.size() - 1;
    for (; counts[digit] < k; --digit)
        k -= counts[digit];
    return {static_cast<std::uint32_t>(digit), k};
}

/// Counts the upper 16 bits, then the lower 15 of those that tie.
Cut cut_for(std::span<const float> values, std::size_t k) {
    constexpr unsigned kLowBits = 15;
    std::vector<std::uint32_t> counts(std::size_t{1} << 16);
    for (const float value : values)
        ++counts[magnitude_bits(value) >> kLowBits];
    const Cut high = cut_counts(counts, k);
    counts.assign(std::size_t{1} << kLowBits, 0);
    for (const float value : values)
        if (const std::uint32_t bits = magnitude_bits(value); bits >> kLowBits == high.bits)
            ++counts[bits & (counts.size() - 1)];
    const Cut low = cut_counts(counts, high.ties);
    return {high.bits << kLowBits | low.bits, low.ties};
}

class TopkCodec final : public FixedPointCodec {
public:
    TopkCodec(const CodecOptions& options, const Schema& schema)
        : FixedPointCodec(schema),
          chosen_(static_cast<std::size_t>(std::ceil(options.share * static_cast<double>(schema.parameters())))) {
        if (schema.parameters() > std::numeric_limits<std::uint32_t>::max())
            throw InputError(fmt::format("topk codec: {} parameters, more than 2^32 - 1", schema.parameters()));
    }

    std::string_view name() const override { return "topk"; }
    bool is_biased() const override { return true; }

    void encode(std::span<const float> values, const Terms& /*terms*/, std::vector<std::byte>& out) const override {
        check_values(values);
        out.clear();
        Cut cut = cut_for(values, chosen_);
        for (std::size_t layer = 0; layer < schema().layer_count(); ++layer)
            encode_layer(schema().slice(values, layer), cut, out);
    }

private:
    static void encode_layer(std::span<const float> values, Cut& cut, std::vector<std::byte>& out) {
        std::vector<float> chosen;
        std::vector<std::uint32_t> gaps;
        std::size_t next = 0;  // behind the last chosen one
        for (std::size_t i = 0; i < values.size(); ++i)
            if (cut.chooses(values[i])) {
                chosen.push_back(values[i]);
                gaps.push_back(static_cast<std::uint32_t>(i - next));
                next = i + 1;
            }
        const unsigned rice_bits = best_rice_bits(gaps);
        const std::size_t begin = out.size();
        out.resize(begin + kSectionHeaderBytes);
        store_little(static_cast<std::uint32_t>(chosen.size()), out.data() + begin);
        store_little(static_cast<std::uint8_t>(rice_bits), out.data() + begin + sizeof(std::uint32_t));
        append_halves(chosen, FloatFormat::bf16, out);
        append_rice(gaps, rice_bits, out);
    }

    void read(std::span<const std::byte> payload, const Terms& /*terms*/, FloatSink& sink) const override {
        std::size_t chosen = 0;
        for (std::size_t layer = 0; layer < schema().layer_count(); ++layer)
            chosen += read_layer(layer, payload, sink);
        check(payload.empty(), schema().layer_count(), "bytes follow the last layer");
        check(chosen == chosen_, schema().layer_count(), "{} values, not {}", chosen, chosen_);
    }

    /// Takes the layer's section off `payload`; returns its number of values.
    std::size_t read_layer(std::size_t layer, std::span<const std::byte>& payload, FloatSink& sink) const {
        const std::size_t size = schema().layers()[layer].count;
        check(payload.size() >= kSectionHeaderBytes, layer, "the payload is cut off");
        const std::size_t count = load_little<std::uint32_t>(payload.data());
        const unsigned rice_bits = load_little<std::uint8_t>(payload.data() + sizeof(std::uint32_t));
        payload = payload.subspan(kSectionHeaderBytes);
        check(count <= size, layer, "{} values of {}", count, size);
        check(rice_bits <= kMaxRiceBits, layer, "a Rice parameter of {}", rice_bits);
        check(payload.size() >= kHalfBytes * count, layer, "the payload is cut off");
        const std::byte* values = payload.data();
        payload = payload.subspan(kHalfBytes * count);
        RiceReader gaps(payload, rice_bits);
        scatter(layer, values, count, gaps, sink);
        const std::optional<std::size_t> bytes = gaps.finish();
        check(bytes.has_value(), layer, "the padding is not zero");
        payload = payload.subspan(*bytes);
        return count;
    }

    /// Hands on the layer's values, zeros between those at `values`.
    void scatter(std::size_t layer, const std::byte* values, std::size_t count, RiceReader& gaps,
                 FloatSink& sink) const {
        const std::size_t size = schema().layers()[layer].count;
        const auto place_from = [&](std::size_t begin) {
            const std::optional<std::uint32_t> gap = gaps.next();
            check(gap.has_value(), layer, "a gap is cut off, or 2^32 or more");
            return begin + *gap;
        };
        std::array<float, kFixedPointChunk> buffer;
        std::size_t place = count > 0 ? place_from(0) : size;  // of the next value
        for (std::size_t offset = 0; offset < size; offset += buffer.size()) {
            const auto chunk = std::span(buffer).first(std::min(buffer.size(), size - offset));
            std::ranges::fill(chunk, 0.0F);
            for (; count > 0 && place < offset + chunk.size(); values += kHalfBytes) {
                load_halves(values, FloatFormat::bf16, chunk.subspan(place - offset, 1));
                place = --count > 0 ? place_from(place + 1) : size;
            }
            sink.add(layer, offset, std::span<const float>(chunk));
        }
        check(count == 0, layer, "a value lies behind the layer");
    }

    std::size_t chosen_;  ///< k
};

}  // namespace

std::unique_ptr<Codec> make_topk_codec(const CodecOptions& options, const Schema& schema) {
    return std::make_unique<TopkCodec>(options, schema);
}

}  // namespace dither::detail
