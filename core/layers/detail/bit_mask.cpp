#include "core/layers/detail/bit_mask.hpp"

#include "core/simd.hpp"

namespace dither::mask {

DITHER_CLONES
void relu(const float* x, float* y, std::uint32_t* words, std::size_t count) {
    pack(words, count, [=](std::size_t i) { return x[i] > 0; });
    for (std::size_t i = 0; i < count; ++i)
        y[i] = x[i] < 0 ? 0 : x[i];
}

DITHER_CLONES
void apply(const std::uint32_t* words, const float* in, float* out, std::size_t count, float scale) {
    unpack(words, count, [=](std::size_t i, bool kept) {
        const float value = in[i] * scale;
        out[i] = kept ? value : 0;
    });
}

}  // namespace dither::mask
