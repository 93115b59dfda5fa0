// What happens to the results of a product in one pass: 2x2 max pool, scale and bias, ReLU. Private to core/layers.
//
// The results are fp32, or the int32 sums of codes; the scale is positive, so the maximum is taken before it. A byte
// for each value that comes out remembers where it came from: its place in the window (0 without a pool), or kDead
// where ReLU stopped it.
#pragma once

#include <cstdint>

namespace dither::tail {

inline constexpr std::uint8_t kDead = 255;

/// `rows` x `width` pixels that come out, of `channels` values; behind a pool four results make one of them. Images of
/// a batch follow one another, so a batch is just more rows.
struct Extent {
    std::int64_t rows = 1;
    std::int64_t width = 1;
    std::int64_t channels = 1;
    bool pool = false;
    bool relu = false;

    std::int64_t count() const { return rows * width * channels; }
};

/// y = relu(pool(results) * scale + bias); scale and bias: [channels]. `places` may be null.
void finish(const Extent& e, const std::int32_t* results, const float* scale, const float* bias, float* y,
            std::uint8_t* places);
/// The same on floats, with scale 1.
void finish(const Extent& e, const float* results, const float* bias, float* y, std::uint8_t* places);
/// The same with the branches that `places` remembers.
void finish_held(const Extent& e, const float* results, const float* bias, const std::uint8_t* places, float* y);

/// dx[i] = dy[i], and 0 where places[i] is dead; dx may be dy.
void stop_dead(const std::uint8_t* places, const float* dy, float* dx, std::int64_t count);
/// Routes each value to its place; the other places are 0. Without a pool it copies.
void spread(const Extent& e, const std::uint8_t* places, const float* dy, float* dresults);
void spread(const Extent& e, const std::uint8_t* places, const std::int8_t* dy, std::int8_t* dresults);

}  // namespace dither::tail
