// raw: the values as they are. Their integers are in fixed point, so that sums are exact in any order:
//
//     code = rint(value * 2^40), ties to even          |value| < 2^22, so |code| < 2^62
#include "core/error.hpp"
#include "transport/detail/codecs.hpp"
#include "transport/detail/little_endian.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace dither::detail {
namespace {

constexpr std::size_t kChunk = 4096;
constexpr double kUnit = 0x1p-40;
constexpr double kUnitsInOne = 0x1p40;
constexpr float kLargest = 0x1p22F;  // exclusive

/// value * 2^40 is exact in double; rint rounds to nearest-even in the default environment.
std::int64_t to_code(float value) {
    return static_cast<std::int64_t>(std::rint(static_cast<double>(value) * kUnitsInOne));
}

void load(std::span<const std::byte> bytes, std::span<float> values) {
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = load_little<float>(bytes.data() + sizeof(float) * i);
}

std::size_t first_not_finite(std::span<const float> values) {
    const auto bad = std::find_if_not(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
    return static_cast<std::size_t>(bad - values.begin());
}

class RawCodec final : public Codec {
public:
    explicit RawCodec(const Schema& schema) : schema_(schema) {}

    std::string_view name() const override { return "raw"; }
    bool needs_steps() const override { return false; }
    double unit(std::size_t /*layer*/, GridSteps /*steps*/) const override { return kUnit; }

    void encode(std::span<const float> values, GridSteps /*steps*/, const StreamKey& /*key*/,
                std::vector<std::byte>& out) const override {
        require(values.size() == schema_.parameters(), "{} values for a model of {} parameters", values.size(),
                schema_.parameters());
        if (const std::size_t bad = first_not_finite(values); bad < values.size())
            throw TrainingError(fmt::format("parameter {} is {}", bad, values[bad]));
        out.resize(sizeof(float) * values.size());
        for (std::size_t i = 0; i < values.size(); ++i)
            store_little(values[i], out.data() + sizeof(float) * i);
    }

    void decode(std::span<const std::byte> payload, GridSteps /*steps*/, std::span<float> values) const override {
        require(values.size() == schema_.parameters(), "{} values for a model of {} parameters", values.size(),
                schema_.parameters());
        check_size(payload);
        load(payload, values);
        if (const std::size_t bad = first_not_finite(values); bad < values.size())
            throw FormatError(fmt::format("raw payload: parameter {} is not finite", bad));
    }

    void validate(std::span<const std::byte> payload, GridSteps /*steps*/,
                  std::span<std::uint64_t> largest) const override {
        require(largest.size() == schema_.layer_count(), "{} entries for {} layers", largest.size(),
                schema_.layer_count());
        check_size(payload);
        std::fill(largest.begin(), largest.end(), std::uint64_t{0});
        for_each_chunk(payload, [&](std::size_t layer, std::size_t, std::span<const float> values) {
            for (const float value : values) {
                if (!(std::abs(value) < kLargest)) [[unlikely]]
                    throw FormatError(fmt::format("raw payload: a value of layer {} is not below 2^22", layer));
                largest[layer] = std::max(largest[layer], static_cast<std::uint64_t>(to_code(std::abs(value))));
            }
        });
    }

    void accumulate(std::span<const std::byte> payload, GridSteps /*steps*/, IntegerSink& sink) const override {
        std::array<std::int64_t, kChunk> codes;
        for_each_chunk(payload, [&](std::size_t layer, std::size_t offset, std::span<const float> values) {
            std::transform(values.begin(), values.end(), codes.begin(), to_code);
            sink.add(layer, offset, std::span(codes).first(values.size()));
        });
    }

private:
    void check_size(std::span<const std::byte> payload) const {
        const std::size_t expected = sizeof(float) * schema_.parameters();
        if (payload.size() != expected)
            throw FormatError(fmt::format("raw payload: {} bytes, not {}", payload.size(), expected));
    }

    /// visit(layer, offset in the layer, values) for every layer in order, in pieces of at most kChunk.
    template <typename Visit>
    void for_each_chunk(std::span<const std::byte> payload, Visit&& visit) const {
        std::array<float, kChunk> buffer;
        for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
            const LayerSpec& spec = schema_.layers()[layer];
            for (std::size_t offset = 0; offset < spec.count; offset += kChunk) {
                const auto values = std::span(buffer).first(std::min(kChunk, spec.count - offset));
                load(payload.subspan(sizeof(float) * (spec.offset + offset)), values);
                visit(layer, offset, values);
            }
        }
    }

    const Schema& schema_;
};

}  // namespace

std::unique_ptr<Codec> make_raw_codec(const Schema& schema) {
    return std::make_unique<RawCodec>(schema);
}

}  // namespace dither::detail
