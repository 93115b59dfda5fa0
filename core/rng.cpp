#include "core/rng.hpp"

#include "core/detail/philox.hpp"
#include "core/error.hpp"
#include "core/simd.hpp"

#include <Random123/philox.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <numbers>
#include <utility>

namespace dither {
namespace {

using detail::PhiloxCounter;
using detail::PhiloxKey;
constexpr unsigned kRounds = 10;

/// Words that are converted at once, in a loop that vectorizes whole.
constexpr std::size_t kRun = 32;
/// Words that are made at once: few enough to stay in the first cache.
constexpr std::size_t kChunk = 16 * kRun;

/// Fills `out` with values made of the words from `counter` on. kConvert(words, values) makes kPerWord * kRun values of
/// kRun words. A short span costs the words of one run, not of a chunk.
template <auto kConvert, std::size_t kPerWord = 1, typename Value>
[[gnu::always_inline]] inline void fill(const PhiloxKey& key, PhiloxCounter counter, std::span<Value> out) {
    constexpr std::size_t kValues = kPerWord * kRun;
    alignas(64) std::uint32_t words[kChunk];
    while (!out.empty()) {
        const std::size_t runs = std::min(kChunk / kRun, (out.size() + kValues - 1) / kValues);
        detail::fill_philox(key, counter, std::span(words).first(runs * kRun));
        counter[0] += static_cast<std::uint32_t>(runs * kRun / 4);
        const std::size_t whole = std::min(runs, out.size() / kValues);
        for (std::size_t run = 0; run < whole; ++run)
            kConvert(words + run * kRun, out.data() + run * kValues);
        out = out.subspan(whole * kValues);
        if (whole < runs) {
            alignas(64) Value values[kValues];
            kConvert(words + whole * kRun, values);
            std::copy_n(values, out.size(), out.data());
            return;
        }
    }
}

[[gnu::always_inline]] inline void to_halfwords(const std::uint32_t* words, std::uint16_t* values) {
    if constexpr (std::endian::native == std::endian::little) {
        std::memcpy(values, words, kRun * sizeof *words);
        return;
    }
    for (std::size_t i = 0; i < kRun; ++i) {
        values[2 * i] = static_cast<std::uint16_t>(words[i]);
        values[2 * i + 1] = static_cast<std::uint16_t>(words[i] >> 16);
    }
}

DITHER_CLONES void fill_philox_halfwords(const PhiloxKey& key, const PhiloxCounter& counter,
                                         std::span<std::uint16_t> out) {
    fill<to_halfwords, 2>(key, counter, out);
}

/// The upper 24 bits of a word, as a multiple of 2^-24: every such float is exact.
[[gnu::always_inline]] inline float to_uniform(std::uint32_t word) {
    return static_cast<float>(static_cast<std::int32_t>(word >> 8)) * 0x1p-24F;
}

[[gnu::always_inline]] inline void to_uniforms(const std::uint32_t* words, float* values) {
    for (std::size_t i = 0; i < kRun; ++i)
        values[i] = to_uniform(words[i]);
}

DITHER_CLONES void fill_philox_uniform(const PhiloxKey& key, const PhiloxCounter& counter, std::span<float> out) {
    fill<to_uniforms>(key, counter, out);
}

[[gnu::always_inline]] inline void to_signs(const std::uint32_t* words, float* values) {
    constexpr std::uint32_t kOne = std::bit_cast<std::uint32_t>(1.0F);
    for (std::size_t i = 0; i < kRun; ++i)
        values[i] = std::bit_cast<float>(kOne | (words[i] & 0x80000000U));
}

DITHER_CLONES void fill_philox_rademacher(const PhiloxKey& key, const PhiloxCounter& counter, std::span<float> out) {
    fill<to_signs>(key, counter, out);
}

// Box and Muller, "A note on the generation of random normal deviates", 1958:
//     r = sqrt(-2 ln u),  n0 = r cos(a),  n1 = r sin(a),   u uniform in (0, 1], a uniform on the circle
// ln, cos and sin are the single-precision polynomials of Moshier's Cephes (logf, sinf, cosf), without branches. They
// use +, - and * only, and this file is compiled without contraction to FMA, so every x86-64 level, and every IEEE 754
// processor, gives the same bits. n is within 1e-6 / min(1, r) of the exact function of its two words: where u is
// almost 1 and r almost 0, r takes the steps that floats near 1 leave it.

/// sqrt(-2 ln u) with u = (floor(word / 2) + 1/2) * 2^-31; the largest is sqrt(64 ln 2) = 6.66.
[[gnu::always_inline]] inline float box_muller_radius(std::uint32_t word) {
    const float u = static_cast<float>(static_cast<std::int32_t>(word >> 1)) * 0x1p-31F + 0x1p-32F;
    // u = m * 2^e with m in [sqrt(1/2), sqrt(2)), so that ln u = ln m + e ln 2.
    constexpr std::int32_t kSqrtHalf = std::bit_cast<std::int32_t>(std::numbers::sqrt2_v<float> / 2);
    const std::int32_t bits = std::bit_cast<std::int32_t>(u);
    const std::int32_t exponent = (bits - kSqrtHalf) >> 23;
    const float e = static_cast<float>(exponent);
    const float x = std::bit_cast<float>(bits - exponent * (1 << 23)) - 1.0F;
    const float xx = x * x;
    float p = 7.0376836292e-2F;
    p = p * x - 1.1514610310e-1F;
    p = p * x + 1.1676998740e-1F;
    p = p * x - 1.2420140846e-1F;
    p = p * x + 1.4249322787e-1F;
    p = p * x - 1.6668057665e-1F;
    p = p * x + 2.0000714765e-1F;
    p = p * x - 2.4999993993e-1F;
    p = p * x + 3.3333331174e-1F;
    const float tail = p * x * xx - 2.12194440e-4F * e - 0.5F * xx;  // 0.693359375 - 2.12194440e-4 = ln 2
    return std::sqrt(-2.0F * ((x + tail) + 0.693359375F * e));
}

struct Point {
    float x, y;
};

/// A uniform point on the unit circle: the angle within [-pi/4, pi/4) from the lower 30 bits, then a mirror image
/// (bit 31) and a swap of the axes (bit 30) take that quarter to each of the four.
[[gnu::always_inline]] inline Point box_muller_direction(std::uint32_t word) {
    constexpr float kScale = std::numbers::pi_v<float> / 4 * 0x1p-31F;
    const float a = static_cast<float>(static_cast<std::int32_t>(word << 2)) * kScale;
    const float aa = a * a;
    const float sine = ((-1.9515295891e-4F * aa + 8.3321608736e-3F) * aa - 1.6666654611e-1F) * aa * a + a;
    const float cosine = ((2.443315711809948e-5F * aa - 1.388731625493765e-3F) * aa + 4.166664568298827e-2F) * aa * aa -
                         0.5F * aa + 1.0F;
    const float mirrored = std::bit_cast<float>(std::bit_cast<std::uint32_t>(cosine) ^ (word & 0x80000000U));
    const bool swapped = (word & 0x40000000U) != 0;
    return {swapped ? sine : mirrored, swapped ? mirrored : sine};
}

[[gnu::always_inline]] inline void to_normals(const std::uint32_t* words, float* values) {
    for (std::size_t i = 0; i < kRun; i += 2) {
        const float radius = box_muller_radius(words[i]);
        const Point direction = box_muller_direction(words[i + 1]);
        values[i] = radius * direction.x;
        values[i + 1] = radius * direction.y;
    }
}

DITHER_CLONES void fill_philox_normal(const PhiloxKey& key, const PhiloxCounter& counter, std::span<float> out) {
    fill<to_normals>(key, counter, out);
}

}  // namespace

StreamKey StreamKey::with(Purpose new_purpose, std::uint32_t new_lane) const {
    StreamKey key = *this;
    key.purpose = new_purpose;
    key.lane = new_lane;
    return key;
}

Stream::Stream(const StreamKey& key)
    : key_{key.seed, static_cast<std::uint32_t>(key.purpose) | key.lane << 8},
      counter_{0, key.step, key.round, key.client} {
    require(key.lane < 1U << 24, "a stream's lane is below 2^24, not {}", key.lane);
}

std::array<std::uint32_t, 4> Stream::block_at(std::uint32_t index) const {
    const philox4x32_ctr_t counter{{index, counter_[1], counter_[2], counter_[3]}};
    const philox4x32_ctr_t block = philox4x32_R(kRounds, counter, philox4x32_key_t{{key_[0], key_[1]}});
    return {block.v[0], block.v[1], block.v[2], block.v[3]};
}

Stream::result_type Stream::operator()() {
    if (used_ == 4) {
        words_ = block_at(counter_[0]++);
        used_ = 0;
    }
    return words_[static_cast<std::size_t>(used_++)];
}

float Stream::uniform() {
    return to_uniform((*this)());
}

double Stream::normal() {
    const double u = ((*this)() + 1.0) * 0x1p-32;
    const double angle = (*this)() * (2 * std::numbers::pi * 0x1p-32);
    return std::sqrt(-2 * std::log(u)) * std::cos(angle);
}

std::uint32_t Stream::below(std::uint32_t bound) {
    require(bound > 0, "no number is below 0");
    // Lemire, "Fast random integer generation in an interval", 2019: the upper word of word * bound is uniform once
    // the lower words below 2^32 mod bound are rejected.
    std::uint64_t product = std::uint64_t{(*this)()} * bound;
    if (static_cast<std::uint32_t>(product) < bound) {
        const std::uint32_t threshold = (0U - bound) % bound;
        while (static_cast<std::uint32_t>(product) < threshold)
            product = std::uint64_t{(*this)()} * bound;
    }
    return static_cast<std::uint32_t>(product >> 32);
}

std::array<std::uint32_t, 4> Stream::take_blocks(std::size_t words) {
    const std::array<std::uint32_t, 4> first = counter_;
    counter_[0] += static_cast<std::uint32_t>((words + 3) / 4);
    used_ = 4;
    return first;
}

void Stream::fill_words(std::span<std::uint32_t> out) {
    detail::fill_philox(key_, take_blocks(out.size()), out);
}
void Stream::fill_halfwords(std::span<std::uint16_t> out) {
    fill_philox_halfwords(key_, take_blocks((out.size() + 1) / 2), out);
}
void Stream::fill_uniform(std::span<float> out) {
    fill_philox_uniform(key_, take_blocks(out.size()), out);
}
void Stream::fill_normal(std::span<float> out) {
    fill_philox_normal(key_, take_blocks(out.size()), out);
}
void Stream::fill_rademacher(std::span<float> out) {
    fill_philox_rademacher(key_, take_blocks(out.size()), out);
}

void Stream::shuffle(std::span<std::uint32_t> items) {
    for (std::size_t left = items.size(); left > 1; --left)
        std::swap(items[left - 1], items[below(static_cast<std::uint32_t>(left))]);
}

}  // namespace dither
