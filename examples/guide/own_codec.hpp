// varint: every value rounded at random onto the grid that all clients of a round share, and the integers in as few
// bytes as their size needs.
//
//     code = floor(value / step + u), u uniform in [0, 1)        so that E[code * step] = value
//
// A code is a zigzag number (0, -1, 1, -2, ... are 0, 1, 2, 3, ...) in groups of 7 bits, the lowest first; bit 7 says
// that another byte follows.
#pragma once

#include "core/config.hpp"
#include "core/error.hpp"
#include "transport/codec.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <vector>

namespace guide {

// The schema is borrowed.
class VarintCodec final : public dither::Codec {
public:
    explicit VarintCodec(const dither::Schema& schema) : schema_(schema) {}

    std::string_view name() const override { return "varint"; }
    bool needs_steps() const override { return true; }
    bool is_biased() const override { return false; }
    double unit(std::size_t layer, dither::GridSteps steps) const override { return steps[layer]; }

    void encode(std::span<const float> values, const dither::Terms& terms, std::vector<std::byte>& out) const override {
        out.clear();
        for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
            dither::StreamKey key = terms.key;
            key.lane = static_cast<std::uint32_t>(layer);  // numbers of its own for each layer
            dither::Stream stream(key);
            for (const float value : schema_.slice(values, layer)) {
                const double code = std::floor(double{value} / terms.steps[layer] + stream.uniform());
                if (!(code >= -kCodes && code < kCodes))
                    throw dither::TrainingError(fmt::format("varint: {} is beyond the grid", value));
                append(static_cast<std::int32_t>(code), out);
            }
        }
    }

    void decode(std::span<const std::byte> payload, const dither::Terms& terms,
                std::span<float> values) const override {
        read(payload, terms, [&](std::size_t layer, std::span<const std::int32_t> codes) {
            const std::span<float> slice = schema_.slice(values, layer);
            for (std::size_t j = 0; j < codes.size(); ++j)
                slice[j] = static_cast<float>(codes[j] * double{terms.steps[layer]});
        });
    }

    double validate(std::span<const std::byte> payload, const dither::Terms& terms,
                    std::span<std::uint64_t> largest) const override {
        double squares = 0;
        read(payload, terms, [&](std::size_t layer, std::span<const std::int32_t> codes) {
            largest[layer] = 0;
            for (const std::int32_t code : codes) {
                largest[layer] = std::max<std::uint64_t>(largest[layer], static_cast<std::uint64_t>(std::abs(code)));
                const double value = code * double{terms.steps[layer]};
                squares += value * value;
            }
        });
        return squares;
    }

    void accumulate(std::span<const std::byte> payload, const dither::Terms& terms,
                    dither::IntegerSink& sink) const override {
        read(payload, terms,
             [&](std::size_t layer, std::span<const std::int32_t> codes) { sink.add(layer, 0, codes); });
    }

private:
    static constexpr double kCodes = 1 << 27;  // on either side of 0: what 4 bytes can say

    static void append(std::int32_t code, std::vector<std::byte>& out) {
        std::uint32_t rest = (static_cast<std::uint32_t>(code) << 1) ^ static_cast<std::uint32_t>(code >> 31);
        for (; rest >= 0x80; rest >>= 7)
            out.push_back(static_cast<std::byte>(rest | 0x80));
        out.push_back(static_cast<std::byte>(rest));
    }

    // Takes one code off the front. What append() does not write is refused: a number that ends too late or in a byte
    // of nothing.
    static std::int32_t take(std::span<const std::byte>& payload) {
        std::uint32_t number = 0;
        for (int shift = 0; shift < 28 && !payload.empty(); shift += 7) {
            const auto byte = std::to_integer<std::uint32_t>(payload.front());
            payload = payload.subspan(1);
            number |= (byte & 0x7F) << shift;
            if (byte < 0x80 && (byte > 0 || shift == 0))
                return static_cast<std::int32_t>(number >> 1) ^ -static_cast<std::int32_t>(number & 1);
            if (byte == 0)
                break;
        }
        throw dither::FormatError("varint: not a number of 1 to 4 bytes");
    }

    // visit(layer, its codes) in order. Payload and steps may come from a stranger: nothing is taken for granted.
    template <typename Visit>
    void read(std::span<const std::byte> payload, const dither::Terms& terms, const Visit& visit) const {
        check(terms.steps);
        std::vector<std::int32_t> codes;
        for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
            codes.resize(schema_.layers()[layer].count);
            for (std::int32_t& code : codes)
                code = take(payload);
            visit(layer, codes);
        }
        if (!payload.empty())
            throw dither::FormatError(fmt::format("varint: {} bytes too many", payload.size()));
    }

    void check(dither::GridSteps steps) const {
        const auto is_step = [](float step) { return step > 0 && step <= dither::kLargestGridStep; };
        if (steps.size() != schema_.layer_count() || !std::ranges::all_of(steps, is_step))
            throw dither::FormatError("varint: the steps are no grid of this model");
    }

    const dither::Schema& schema_;
};

// A kind that this project does not know, beside those that it does.
inline std::unique_ptr<dither::Codec> make_codec(const dither::CodecOptions& options, const dither::Schema& schema) {
    if (options.kind == "varint")
        return std::make_unique<VarintCodec>(schema);
    return dither::make_codec(options, schema);
}

}  // namespace guide
