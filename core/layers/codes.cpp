#include "core/layers/detail/codes.hpp"

#include "core/layers/detail/weighted_kernels.hpp"

namespace dither {
namespace {

std::span<const std::int8_t> signed_view(const Buffer<std::uint8_t>& bytes) {
    return {reinterpret_cast<const std::int8_t*>(bytes.data()), bytes.size()};
}

/// The quantizer's scale of each of `count` groups: that of its own, or the tensor's.
void copy_scales(const Quantizer& quantizer, std::size_t count, std::vector<float>& scales) {
    scales.resize(count);
    for (std::size_t i = 0; i < count; ++i)
        scales[i] = quantizer.scales()[quantizer.scales().size() == 1 ? 0 : i].scale;
}

}  // namespace

void WeightCodes::encode(Quantizer& quantizer, std::span<const float> w, const QuantLayout& layout, int bits,
                         const StreamKey& key, bool update_range) {
    if (bytes.empty())
        bytes = Buffer<std::uint8_t>(w.size());
    quantizer.encode(w, bytes.values(), layout, bits, key, true, update_range);
    copy_scales(quantizer, layout.columns, scales);
}

void WeightCodes::decode(std::span<float> w) const {
    kernels::decode_channels(bytes.data(), scales.data(), w.size(), static_cast<std::int64_t>(scales.size()), w.data());
}

std::span<const std::int8_t> WeightCodes::codes() const {
    return signed_view(bytes);
}

void ActivationCodes::encode(Quantizer& quantizer, std::span<const float> x, const QuantLayout& layout, int bits,
                             const StreamKey& key, bool update_range, Arena* arena) {
    bytes.release();
    bytes = Buffer<std::uint8_t>(x.size(), arena);
    quantizer.encode(x, bytes.values(), layout, bits, key, false, update_range);
    copy_scales(quantizer, layout.samples, scales);
    offsets.resize(layout.samples);
    for (std::size_t i = 0; i < offsets.size(); ++i)
        offsets[i] = quantizer.offset(quantizer.scales().size() == 1 ? 0 : i);
}

void ActivationCodes::decode(Tensor& x) const {
    const std::size_t item = bytes.size() / scales.size();
    for (std::size_t i = 0; i < scales.size(); ++i)
        kernels::decode(bytes.data() + i * item, scales[i], offsets[i], item, x.data() + i * item);
}

void GradientCodes::encode(Quantizer& quantizer, std::span<const float> g, const QuantLayout& layout, int bits,
                           const StreamKey& key, bool update_range, Arena* arena) {
    bytes = Buffer<std::uint8_t>(g.size(), arena);
    quantizer.encode(g, bytes.values(), layout, bits, key, true, update_range);
    copy_scales(quantizer, layout.samples, scales);
}

std::span<const std::int8_t> GradientCodes::codes() const {
    return signed_view(bytes);
}

}  // namespace dither
