// The loops of the normalisation layers over blocks of rows, which stay in the first cache. Private to core/layers.
//
// x: [rows, channels], rows <= kBlockRows. Eight rows lie side by side in a stripe of 8 * channels values: loops run
// over whole stripes, so that few channels vectorize as well as many, and constants of the channels are repeated
// eightfold (spread). Each sum is taken in the same order by every instruction set: row r of a block adds to lane r % 8
// in fp32, and the eight lanes are added as a tree, so that a sum of 64 terms carries at most 11 roundings.
#pragma once

#include <cstdint>
#include <span>

namespace dither::norm {

inline constexpr std::int64_t kStripeRows = 8;
inline constexpr std::int64_t kBlockRows = 64;

struct Block {
    std::int64_t rows;
    std::int64_t channels;

    std::int64_t count() const { return rows * channels; }
    std::int64_t stripe() const { return kStripeRows * channels; }
};

/// A stripe with `constants` ([channels]) in each of its rows.
void spread(std::span<const float> constants, float* stripe);

/// means[c] and squares[c]: the mean of channel c over the block, and the sum of the squared deviations from it.
/// scratch: two stripes.
void moments(const Block& b, const float* x, float* scratch, float* means, float* squares);
/// low[c] and high[c]: the extremes seen so far, widened by the block's. scratch: two stripes.
void widen(const Block& b, const float* x, float* scratch, float* low, float* high);

/// y = (x - mean) * scale + shift; `x` may be `y`. The constants are stripes.
void normalize(const Block& b, const float* x, const float* mean, const float* scale, const float* shift, float* y);
/// codes = round((x - mean) * scale), ties to even, for results within +-127.
void encode(const Block& b, const float* x, const float* mean, const float* scale, std::int8_t* codes);

/// What the backward pass kept: xhat = (kept - mean) * scale, in floats or codes. The constants are stripes.
template <typename Kept>
struct Normalized {
    const Kept* kept;
    const float* mean;
    const float* scale;
};

/// sums[c] = sum of g, products[c] = sum of g * xhat. scratch: two stripes.
void gradient_sums(const Block& b, const float* g, const Normalized<float>& x, float* scratch, float* sums,
                   float* products);
void gradient_sums(const Block& b, const float* g, const Normalized<std::int8_t>& x, float* scratch, float* sums,
                   float* products);
/// dx = g * slope - (shift + xhat * tilt); `g` may be `dx`. The constants are stripes.
void input_gradient(const Block& b, const float* g, const Normalized<float>& x, const float* slope, const float* shift,
                    const float* tilt, float* dx);
void input_gradient(const Block& b, const float* g, const Normalized<std::int8_t>& x, const float* slope,
                    const float* shift, const float* tilt, float* dx);

}  // namespace dither::norm
