// The operands of integer products: codes of up to 8 bits, a byte each, with the scales that give them back their
// values. Private to core/layers.
#pragma once

#include "core/arena.hpp"
#include "core/quantize/quantizer.hpp"
#include "core/tensor.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dither {

/// w~ = scale[channel] * code, codes signed. Plans its memory once.
struct WeightCodes {
    Buffer<std::uint8_t> bytes;  ///< two's complement
    std::vector<float> scales;   ///< [output channels]

    void encode(Quantizer& quantizer, std::span<const float> w, const QuantLayout& layout, int bits,
                const StreamKey& key, bool update_range);
    void decode(std::span<float> w) const;
    std::span<const std::int8_t> codes() const;
};

/// x~ = scale * (code - offset), one scale and offset for each item of the batch, codes unsigned.
struct ActivationCodes {
    Buffer<std::uint8_t> bytes;
    std::vector<float> scales;          ///< [items]
    std::vector<std::int32_t> offsets;  ///< [items]

    /// layout.samples is the number of items.
    void encode(Quantizer& quantizer, std::span<const float> x, const QuantLayout& layout, int bits,
                const StreamKey& key, bool update_range, Arena* arena);
    /// The same values, x of one item after the other.
    void decode(Tensor& x) const;
    void release() { bytes.release(); }
};

/// g~ = scale / unit[channel] * code, one scale for each item, codes signed.
struct GradientCodes {
    Buffer<std::uint8_t> bytes;  ///< two's complement
    std::vector<float> scales;   ///< [items]

    void encode(Quantizer& quantizer, std::span<const float> g, const QuantLayout& layout, int bits,
                const StreamKey& key, bool update_range, Arena* arena);
    std::span<const std::int8_t> codes() const;
};

}  // namespace dither
