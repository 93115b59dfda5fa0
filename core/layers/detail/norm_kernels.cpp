#include "core/layers/detail/norm_kernels.hpp"

#include "core/simd.hpp"

#include <algorithm>
#include <bit>

namespace dither::norm {
namespace {

/// Calls visit(offset of a stripe in the block, its values): whole stripes, then the rows that are left.
template <typename Visit>
[[gnu::always_inline]] inline void for_each_stripe(const Block& b, const Visit visit) {
    const std::int64_t stripe = b.stripe();
    const std::int64_t count = b.count();
    std::int64_t begin = 0;
    for (; begin + stripe <= count; begin += stripe)
        visit(begin, stripe);
    if (begin < count)
        visit(begin, count - begin);
}

/// results[c] = op over the eight lanes of channel c, as a tree.
template <typename Op>
[[gnu::always_inline]] inline void fold(const float* __restrict lanes, std::int64_t channels, float* __restrict results,
                                        const Op op) {
    const float* l = lanes;
    for (std::int64_t c = 0; c < channels; ++c) {
        const float low = op(op(l[c], l[c + channels]), op(l[c + 2 * channels], l[c + 3 * channels]));
        const float high =
            op(op(l[c + 4 * channels], l[c + 5 * channels]), op(l[c + 6 * channels], l[c + 7 * channels]));
        results[c] = op(low, high);
    }
}

[[gnu::always_inline]] inline float sum_of(float a, float b) {
    return a + b;
}
[[gnu::always_inline]] inline float smaller(float a, float b) {
    return b < a ? b : a;
}
[[gnu::always_inline]] inline float larger(float a, float b) {
    return b > a ? b : a;
}

template <typename Kept>
[[gnu::always_inline]] inline void gradient_sums_any(const Block& b, const float* __restrict g,
                                                     const Normalized<Kept>& x, float* __restrict scratch,
                                                     float* __restrict sums, float* __restrict products) {
    float* __restrict lanes = scratch;
    float* __restrict product_lanes = scratch + b.stripe();
    std::fill_n(lanes, 2 * b.stripe(), 0.0F);
    for_each_stripe(b, [&](std::int64_t begin, std::int64_t count) {
        const Kept* __restrict kept = x.kept + begin;
        const float* __restrict gradient = g + begin;
        for (std::int64_t i = 0; i < count; ++i) {
            const float xhat = (static_cast<float>(kept[i]) - x.mean[i]) * x.scale[i];
            lanes[i] += gradient[i];
            product_lanes[i] += gradient[i] * xhat;
        }
    });
    fold(lanes, b.channels, sums, sum_of);
    fold(product_lanes, b.channels, products, sum_of);
}

template <typename Kept>
[[gnu::always_inline]] inline void input_gradient_any(const Block& b, const float* g, const Normalized<Kept>& x,
                                                      const float* slope, const float* shift, const float* tilt,
                                                      float* dx) {
    for_each_stripe(b, [&](std::int64_t begin, std::int64_t count) {
        const Kept* kept = x.kept + begin;
        const float* gradient = g + begin;
        float* out = dx + begin;
#pragma GCC ivdep
        for (std::int64_t i = 0; i < count; ++i) {
            const float xhat = (static_cast<float>(kept[i]) - x.mean[i]) * x.scale[i];
            out[i] = gradient[i] * slope[i] - (shift[i] + xhat * tilt[i]);
        }
    });
}

}  // namespace

void spread(std::span<const float> constants, float* stripe) {
    for (std::int64_t row = 0; row < kStripeRows; ++row)
        stripe = std::copy(constants.begin(), constants.end(), stripe);
}

DITHER_CLONES
void moments(const Block& b, const float* __restrict x, float* __restrict scratch, float* __restrict means,
             float* __restrict squares) {
    float* __restrict lanes = scratch;
    float* __restrict mean = scratch + b.stripe();
    std::fill_n(lanes, b.stripe(), 0.0F);
    for_each_stripe(b, [&](std::int64_t begin, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i)
            lanes[i] += x[begin + i];
    });
    fold(lanes, b.channels, means, sum_of);
    const float share = 1.0F / static_cast<float>(b.rows);
    for (std::int64_t c = 0; c < b.channels; ++c)
        means[c] *= share;
    for (std::int64_t row = 0; row < kStripeRows; ++row)
        std::copy_n(means, b.channels, mean + row * b.channels);

    std::fill_n(lanes, b.stripe(), 0.0F);
    for_each_stripe(b, [&](std::int64_t begin, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) {
            const float deviation = x[begin + i] - mean[i];
            lanes[i] += deviation * deviation;
        }
    });
    fold(lanes, b.channels, squares, sum_of);
}

DITHER_CLONES
void widen(const Block& b, const float* __restrict x, float* __restrict scratch, float* __restrict low,
           float* __restrict high) {
    float* __restrict lows = scratch;
    float* __restrict highs = scratch + b.stripe();
    for (std::int64_t row = 0; row < kStripeRows; ++row) {
        std::copy_n(low, b.channels, lows + row * b.channels);
        std::copy_n(high, b.channels, highs + row * b.channels);
    }
    for_each_stripe(b, [&](std::int64_t begin, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) {
            lows[i] = smaller(lows[i], x[begin + i]);
            highs[i] = larger(highs[i], x[begin + i]);
        }
    });
    fold(lows, b.channels, low, smaller);
    fold(highs, b.channels, high, larger);
}

DITHER_CLONES
void normalize(const Block& b, const float* x, const float* mean, const float* scale, const float* shift, float* y) {
    for_each_stripe(b, [&](std::int64_t begin, std::int64_t count) {
        const float* in = x + begin;
        float* out = y + begin;
#pragma GCC ivdep
        for (std::int64_t i = 0; i < count; ++i)
            out[i] = (in[i] - mean[i]) * scale[i] + shift[i];
    });
}

DITHER_CLONES
void encode(const Block& b, const float* __restrict x, const float* mean, const float* scale,
            std::int8_t* __restrict codes) {
    constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    for_each_stripe(b, [&](std::int64_t begin, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) {
            const float shifted = (x[begin + i] - mean[i]) * scale[i] + kRound;
            codes[begin + i] = static_cast<std::int8_t>(std::bit_cast<std::uint32_t>(shifted));
        }
    });
}

DITHER_CLONES
void gradient_sums(const Block& b, const float* g, const Normalized<float>& x, float* scratch, float* sums,
                   float* products) {
    gradient_sums_any(b, g, x, scratch, sums, products);
}

DITHER_CLONES
void gradient_sums(const Block& b, const float* g, const Normalized<std::int8_t>& x, float* scratch, float* sums,
                   float* products) {
    gradient_sums_any(b, g, x, scratch, sums, products);
}

DITHER_CLONES
void input_gradient(const Block& b, const float* g, const Normalized<float>& x, const float* slope, const float* shift,
                    const float* tilt, float* dx) {
    input_gradient_any(b, g, x, slope, shift, tilt, dx);
}

DITHER_CLONES
void input_gradient(const Block& b, const float* g, const Normalized<std::int8_t>& x, const float* slope,
                    const float* shift, const float* tilt, float* dx) {
    input_gradient_any(b, g, x, slope, shift, tilt, dx);
}

}  // namespace dither::norm
