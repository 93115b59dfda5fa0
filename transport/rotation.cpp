#include "transport/rotation.hpp"

#include "core/error.hpp"
#include "core/simd.hpp"
#include "transport/hadamard.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

namespace dither {
namespace {

constexpr std::uint32_t kRounds = 2;
constexpr std::size_t kWordBits = 32;
constexpr std::size_t kChunkWords = 128;

/// z[i] * scale, or its negative where bit i of the words is set.
DITHER_CLONES void scale_whole_words(float* z, const std::uint32_t* words, std::size_t count, float scale) {
    const auto bits = std::bit_cast<std::uint32_t>(scale);
    for (std::size_t word = 0; word < count; ++word)
        for (std::size_t i = 0; i < kWordBits; ++i) {
            const std::uint32_t sign = (words[word] << (kWordBits - 1 - i)) & 0x80000000U;
            z[word * kWordBits + i] *= std::bit_cast<float>(bits ^ sign);
        }
}

void scale_by_signs(std::span<float> z, const StreamKey& key, float scale) {
    Stream stream(key);
    std::array<std::uint32_t, kChunkWords> words;
    while (!z.empty()) {
        const std::size_t count = std::min(z.size(), kChunkWords * kWordBits);
        const std::size_t whole = count / kWordBits;
        stream.fill_words(std::span(words).first((count + kWordBits - 1) / kWordBits));
        scale_whole_words(z.data(), words.data(), whole, scale);
        for (std::size_t i = whole * kWordBits; i < count; ++i)
            z[i] *= (words[whole] >> (i % kWordBits) & 1U) != 0 ? -scale : scale;
        z = z.subspan(count);
    }
}

/// visit(i, j) for all i in order: coordinate i of the merged order was coordinate j. The first `head` of `count` come
/// at equal distances.
template <typename Visit>
[[gnu::always_inline]] inline void merge(std::size_t head, std::size_t count, Visit visit) {
    std::size_t due = 0;  // head * (i + 1) mod count
    std::size_t from_head = 0;
    for (std::size_t i = 0; i < count; ++i) {
        due += head;
        const bool is_head = due >= count;
        visit(i, is_head ? from_head : head + i - from_head);
        from_head += is_head ? 1 : 0;
        due -= is_head ? count : 0;
    }
}

}  // namespace

Rotation::Rotation(std::size_t count, const StreamKey& key) : count_(count), part_(std::bit_floor(count)), key_(key) {
    require(count > 0, "a rotation of no coordinates");
}

void Rotation::check(std::span<const float> z, std::span<const float> scratch) const {
    require(z.size() == count_, "{} values for a rotation of {} coordinates", z.size(), count_);
    require(is_whole() || scratch.size() == count_, "scratch of {} for a rotation of {} coordinates", scratch.size(),
            count_);
}

void Rotation::pass(std::span<float> z, std::uint32_t index, bool forward) const {
    StreamKey key = key_;
    key.step = index;
    const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(part_)));
    if (forward)
        scale_by_signs(z, key, scale);
    hadamard_transform(z);
    if (!forward)
        scale_by_signs(z, key, scale);
}

void Rotation::apply(std::span<float> z, std::span<float> scratch) const {
    check(z, scratch);
    for (std::uint32_t round = 0; round < kRounds; ++round) {
        pass(z.first(part_), 2 * round, true);
        if (is_whole())
            continue;
        pass(z.last(part_), 2 * round + 1, true);
        std::copy(z.begin(), z.end(), scratch.begin());
        merge(count_ - part_, count_, [&](std::size_t i, std::size_t j) { z[i] = scratch[j]; });
    }
}

void Rotation::invert(std::span<float> z, std::span<float> scratch) const {
    check(z, scratch);
    for (std::uint32_t round = kRounds; round-- > 0;) {
        if (!is_whole()) {
            std::copy(z.begin(), z.end(), scratch.begin());
            merge(count_ - part_, count_, [&](std::size_t i, std::size_t j) { z[j] = scratch[i]; });
            pass(z.last(part_), 2 * round + 1, false);
        }
        pass(z.first(part_), 2 * round, false);
    }
}

}  // namespace dither
