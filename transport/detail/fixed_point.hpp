// What codecs share whose payloads decode to floats: they are summed in fixed point, so that sums are exact in any
// order.
//
//     code = rint(value * 2^40), ties to even          |value| < 2^22, so |code| <= 2^62 - 2^38
//
// value * 2^40 is exact in double, and the integers are the same on every machine.
#pragma once

#include "core/error.hpp"
#include "transport/codec.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace dither::detail {

/// What one integer is worth.
inline constexpr double kFixedPointUnit = 0x1p-40;
/// Magnitudes that can be summed lie below it.
inline constexpr float kFixedPointLimit = 0x1p22F;
/// Of the integers that are handed on at a time.
inline constexpr std::size_t kFixedPointChunk = 4096;

/// codes[i] = rint(values[i] * 2^40). Both have the same size; magnitudes are below kFixedPointLimit.
void to_fixed_point(std::span<const float> values, std::span<std::int64_t> codes);

/// visit(layer, offset in the layer, count) for every layer in order, in pieces of at most kFixedPointChunk.
template <typename Visit>
void for_each_chunk(const Schema& schema, Visit&& visit) {
    for (std::size_t layer = 0; layer < schema.layer_count(); ++layer) {
        const std::size_t count = schema.layers()[layer].count;
        for (std::size_t offset = 0; offset < count; offset += kFixedPointChunk)
            visit(layer, offset, std::min(kFixedPointChunk, count - offset));
    }
}

/// Takes one payload's values, layer by layer in order, each layer whole or in pieces in order.
class FloatSink {
public:
    virtual ~FloatSink() = default;
    /// values at flat positions offset .. offset + values.size() - 1 of layer `layer`.
    virtual void add(std::size_t layer, std::size_t offset, std::span<const float> values) = 0;
};

/// A codec that says in `read` what its payloads decode to; decode, validate and accumulate follow from that. Values
/// that are not finite are refused by decode and by validate, those that cannot be summed by validate.
class FixedPointCodec : public Codec {
public:
    /// The schema is borrowed.
    explicit FixedPointCodec(const Schema& schema) : schema_(schema) {}

    bool needs_steps() const final { return false; }
    double unit(std::size_t /*layer*/, GridSteps /*steps*/) const final { return kFixedPointUnit; }

    void decode(std::span<const std::byte> payload, const Terms& terms, std::span<float> values) const final;
    double validate(std::span<const std::byte> payload, const Terms& terms,
                    std::span<std::uint64_t> largest) const final;
    void accumulate(std::span<const std::byte> payload, const Terms& terms, IntegerSink& sink) const final;

protected:
    /// Hands the values of all layers to `sink`, in one order and with the same bits for the same payload and terms.
    /// Throws FormatError unless `payload` is exactly one of this codec and schema; some layers may be handed on
    /// before.
    virtual void read(std::span<const std::byte> payload, const Terms& terms, FloatSink& sink) const = 0;

    const Schema& schema() const { return schema_; }
    /// For encode: throws TrainingError that names the parameter if a value is not finite.
    void check_values(std::span<const float> values) const;
    /// Throws FormatError that names codec and layer unless `holds`.
    template <typename... Args>
    void check(bool holds, std::size_t layer, fmt::format_string<Args...> problem, Args&&... args) const {
        if (!holds) [[unlikely]]
            refuse(layer, fmt::format(problem, std::forward<Args>(args)...));
    }
    /// For codecs whose payloads have one size.
    void check_size(std::span<const std::byte> payload, std::size_t expected) const;
    /// The same where each layer has a section of bytes_of(its count) bytes: then visit(layer, section) in order.
    template <typename BytesOf, typename Visit>
    void for_each_section(std::span<const std::byte> payload, BytesOf&& bytes_of, Visit&& visit) const {
        std::size_t expected = 0;
        for (const LayerSpec& layer : schema_.layers())
            expected += bytes_of(layer.count);
        check_size(payload, expected);
        for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
            const std::size_t bytes = bytes_of(schema_.layers()[layer].count);
            visit(layer, payload.first(bytes));
            payload = payload.subspan(bytes);
        }
    }

private:
    [[noreturn]] void refuse(std::size_t layer, std::string_view problem) const;

    const Schema& schema_;
};

}  // namespace dither::detail
