#include "transport/detail/grid_rounding.hpp"

#include "core/simd.hpp"

#include <bit>

namespace dither::detail {
namespace {

DITHER_CLONES Rounded round_all(const float* x, const std::uint32_t* words, std::size_t count, float step,
                                std::int32_t* q) {
    std::uint32_t used_bits = 0;
    std::uint32_t out_of_range = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const float ratio = x[i] / step;
        // By the bits of |ratio|, whose order is that of floats, so that the loop has no branch.
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(ratio);
        const std::uint32_t too_large = (bits & 0x7fffffff) >= std::bit_cast<std::uint32_t>(kLargestRatio) ? ~0U : 0U;
        const float safe = std::bit_cast<float>(bits & ~too_large);
        const auto truncated = static_cast<std::int32_t>(safe);
        const std::int32_t floor = truncated - (static_cast<float>(truncated) > safe ? 1 : 0);
        const float fraction = safe - static_cast<float>(floor);
        const float u = static_cast<float>(static_cast<std::int32_t>(words[i] >> 8)) * 0x1p-24F;
        const std::int32_t code = floor + (u < fraction ? 1 : 0);
        q[i] = code;
        used_bits |= fold(code);
        out_of_range |= too_large;
    }
    return {used_bits, out_of_range};
}

}  // namespace

Rounded round_to_grid(std::span<const float> x, std::span<const std::uint32_t> words, float step,
                      std::span<std::int32_t> q) {
    return round_all(x.data(), words.data(), x.size(), step, q.data());
}

}  // namespace dither::detail
