// Some channels at a time, as vectors of the compiler's that AVX2 and AVX-512 have registers for: a chunk is a few
// instructions there. Multiplication and addition are not contracted, so all instruction sets give the same bits.
#include "core/layers/detail/tail.hpp"

#include "core/simd.hpp"

#include <bit>
#include <cstring>

namespace dither::tail {
namespace {

using Floats [[gnu::vector_size(32)]] = float;
using Integers [[gnu::vector_size(32)]] = std::int32_t;
using Bytes [[gnu::vector_size(16)]] = std::uint8_t;
using ManyBytes [[gnu::vector_size(32)]] = std::uint8_t;
using FewBytes [[gnu::vector_size(8)]] = std::uint8_t;

/// A vector of values; a mask and a vector of places with as many elements.
template <typename Value>
struct ChunkOf;
template <>
struct ChunkOf<float> {
    using Type = Floats;
    using Mask = Integers;
    using Places = FewBytes;
};
template <>
struct ChunkOf<std::int32_t> {
    using Type = Integers;
    using Mask = Integers;
    using Places = FewBytes;
};
template <>
struct ChunkOf<std::int8_t> {
    using Type = Bytes;
    using Mask = Bytes;
    using Places = Bytes;
};
template <typename Value>
constexpr std::int64_t kChunk = sizeof(typename ChunkOf<Value>::Type) / sizeof(Value);

/// `count` values, at most as many as fit; the others are 0.
template <typename Chunk, typename Value>
[[gnu::always_inline]] inline void load(const Value* from, std::int64_t count, Chunk& chunk) {
    if (count == sizeof chunk / sizeof(Value)) {
        std::memcpy(&chunk, from, sizeof chunk);
        return;
    }
    chunk = Chunk{};
    std::memcpy(&chunk, from, static_cast<std::size_t>(count) * sizeof(Value));
}

template <typename Chunk, typename Value>
[[gnu::always_inline]] inline void store(const Chunk& chunk, std::int64_t count, Value* to) {
    std::memcpy(to, &chunk,
                count == sizeof chunk / sizeof(Value) ? sizeof chunk : static_cast<std::size_t>(count) * sizeof(Value));
}

/// The integers, which fit. (__builtin_convertvector would take them out one by one.)
[[gnu::always_inline]] inline FewBytes low_bytes(const Integers& integers) {
    static_assert(std::endian::native == std::endian::little);
    ManyBytes bytes;
    std::memcpy(&bytes, &integers, sizeof bytes);
    return __builtin_shufflevector(bytes, bytes, 0, 4, 8, 12, 16, 20, 24, 28);
}

/// A pixel that comes out, and the first result of its window.
struct Pixel {
    std::int64_t out;
    std::int64_t corner;
};

[[gnu::always_inline]] inline Pixel pixel_at(const Extent& e, std::int64_t row, std::int64_t x) {
    return {(row * e.width + x) * e.channels, (row * 4 * e.width + 2 * x) * e.channels};
}

/// Where place `k` of that window lies, from its first one.
[[gnu::always_inline]] inline std::int64_t place_in_window(const Extent& e, std::uint8_t k) {
    return ((k & 1) + (k >> 1) * 2 * e.width) * e.channels;
}

/// Takes the challenger where it is larger, or a NaN: whenever there is a NaN, it wins.
template <typename Chunk>
[[gnu::always_inline]] inline void challenge(const Chunk& challenger, const Integers& its_place, Chunk& best,
                                             Integers& place) {
    const Integers wins = (challenger > best) | (challenger != challenger);
    best = wins ? challenger : best;
    place = wins ? its_place : place;
}

struct ScaleAndBias {
    const float* scale;
    const float* bias;
    [[gnu::always_inline]] void operator()(const Integers& sums, std::int64_t first, std::int64_t count,
                                           Floats& y) const {
        Floats factor;
        Floats offset;
        load(scale + first, count, factor);
        load(bias + first, count, offset);
        y = __builtin_convertvector(sums, Floats) * factor + offset;
    }
};

struct Bias {
    const float* bias;
    [[gnu::always_inline]] void operator()(const Floats& values, std::int64_t first, std::int64_t count,
                                           Floats& y) const {
        Floats offset;
        load(bias + first, count, offset);
        y = values + offset;
    }
};

/// One pixel's chunk of channels: pool, affine, ReLU, store.
template <typename Value, typename Affine>
[[gnu::always_inline]] inline void finish_chunk(const Extent& e, const Value* results, const Pixel& pixel,
                                                std::int64_t first, std::int64_t count, const Affine& affine, float* y,
                                                std::uint8_t* places) {
    using Chunk = typename ChunkOf<Value>::Type;
    const std::int64_t at = pixel.out + first;
    Integers place{};
    Chunk best;
    if (e.pool) {
        const Value* window = results + pixel.corner + first;
        load(window, count, best);
        for (std::uint8_t k = 1; k < 4; ++k) {
            Chunk challenger;
            load(window + place_in_window(e, k), count, challenger);
            challenge(challenger, Integers{} + k, best, place);
        }
    } else {
        load(results + at, count, best);
    }
    Floats value;
    affine(best, first, count, value);
    if (e.relu) {
        constexpr std::int32_t kDeadPlace = kDead;
        place = value > 0.0F ? place : Integers{} + kDeadPlace;
        value = value < 0.0F ? Floats{} : value;
    }
    store(value, count, y + at);
    if (places != nullptr)
        store(low_bytes(place), count, places + at);
}

template <typename Value, typename Affine>
[[gnu::always_inline]] inline void finish_any(const Extent& e, const Value* results, const Affine& affine, float* y,
                                              std::uint8_t* places) {
    for (std::int64_t row = 0; row < e.rows; ++row)
        for (std::int64_t x = 0; x < e.width; ++x) {
            const Pixel pixel = pixel_at(e, row, x);
            std::int64_t c = 0;
            for (; c + kChunk<Value> <= e.channels; c += kChunk<Value>)
                finish_chunk(e, results, pixel, c, kChunk<Value>, affine, y, places);
            if (c < e.channels)
                finish_chunk(e, results, pixel, c, e.channels - c, affine, y, places);
        }
}

template <typename Value>
[[gnu::always_inline]] inline void spread_chunk(const Extent& e, const std::uint8_t* places, const Value* dy,
                                                const Pixel& pixel, std::int64_t first, std::int64_t count,
                                                Value* dresults) {
    using Chunk = typename ChunkOf<Value>::Type;
    typename ChunkOf<Value>::Places place;
    Chunk values;
    load(places + pixel.out + first, count, place);
    load(dy + pixel.out + first, count, values);
    const auto wide = __builtin_convertvector(place, typename ChunkOf<Value>::Mask);
    Value* window = dresults + pixel.corner + first;
    for (std::uint8_t k = 0; k < 4; ++k) {
        const Chunk routed = wide == k ? values : Chunk{};
        store(routed, count, window + place_in_window(e, k));
    }
}

template <typename Value>
[[gnu::always_inline]] inline void spread_any(const Extent& e, const std::uint8_t* places, const Value* dy,
                                              Value* dresults) {
    for (std::int64_t row = 0; row < e.rows; ++row)
        for (std::int64_t x = 0; x < e.width; ++x) {
            const Pixel pixel = pixel_at(e, row, x);
            std::int64_t c = 0;
            for (; c + kChunk<Value> <= e.channels; c += kChunk<Value>)
                spread_chunk(e, places, dy, pixel, c, kChunk<Value>, dresults);
            if (c < e.channels)
                spread_chunk(e, places, dy, pixel, c, e.channels - c, dresults);
        }
}

}  // namespace

DITHER_CLONES
void finish(const Extent& e, const std::int32_t* results, const float* scale, const float* bias, float* y,
            std::uint8_t* places) {
    finish_any(e, results, ScaleAndBias{scale, bias}, y, places);
}

DITHER_CLONES
void finish(const Extent& e, const float* results, const float* bias, float* y, std::uint8_t* places) {
    finish_any(e, results, Bias{bias}, y, places);
}

void finish_held(const Extent& e, const float* results, const float* bias, const std::uint8_t* places, float* y) {
    for (std::int64_t i = 0; i < e.count(); ++i) {
        const std::int64_t pixel = i / e.channels;
        const std::int64_t corner = pixel_at(e, pixel / e.width, pixel % e.width).corner;
        const std::int64_t from = e.pool ? corner + place_in_window(e, places[i] & 3U) + i % e.channels : i;
        y[i] = places[i] == kDead ? 0 : results[from] + bias[i % e.channels];
    }
}

DITHER_CLONES
void stop_dead(const std::uint8_t* places, const float* dy, float* dx, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i)
        dx[i] = places[i] == kDead ? 0 : dy[i];
}

DITHER_CLONES
void spread(const Extent& e, const std::uint8_t* places, const float* dy, float* dresults) {
    if (e.pool)
        spread_any(e, places, dy, dresults);
    else
        std::memcpy(dresults, dy, static_cast<std::size_t>(e.count()) * sizeof(float));
}

DITHER_CLONES
void spread(const Extent& e, const std::uint8_t* places, const std::int8_t* dy, std::int8_t* dresults) {
    if (e.pool)
        spread_any(e, places, dy, dresults);
    else
        std::memcpy(dresults, dy, static_cast<std::size_t>(e.count()));
}

}  // namespace dither::tail
