// One bit a value: what a backward pass must know of a branch that was taken. Private to core/layers.
//
// Value i of a mask is bit i % 32 of word i / 32. The templates are always_inline: they take the instruction set of the
// function that instantiates them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace dither::mask {

inline constexpr std::size_t kWord = 32;

constexpr std::size_t words_of(std::size_t count) {
    return (count + kWord - 1) / kWord;
}

inline constexpr std::array<std::uint32_t, kWord> kBits = [] {
    std::array<std::uint32_t, kWord> bits{};
    for (std::size_t i = 0; i < kWord; ++i)
        bits[i] = std::uint32_t{1} << i;
    return bits;
}();

/// Bit i is holds(i).
template <typename Holds>
[[gnu::always_inline]] inline void pack(std::uint32_t* __restrict words, std::size_t count, const Holds holds) {
    const std::size_t whole = count / kWord;
    for (std::size_t w = 0; w < whole; ++w) {
        std::uint32_t word = 0;
        for (std::size_t i = 0; i < kWord; ++i)
            word |= holds(w * kWord + i) ? kBits[i] : 0;
        words[w] = word;
    }
    if (whole * kWord == count)
        return;
    words[whole] = 0;
    for (std::size_t i = whole * kWord; i < count; ++i)
        words[whole] |= holds(i) ? kBits[i % kWord] : 0;
}

/// Calls write(i, bit i), where write touches what belongs to value i alone.
template <typename Write>
[[gnu::always_inline]] inline void unpack(const std::uint32_t* words, std::size_t count, const Write write) {
    const std::size_t whole = count / kWord;
    for (std::size_t w = 0; w < whole; ++w) {
        const std::uint32_t word = words[w];
#pragma GCC ivdep
        for (std::size_t i = 0; i < kWord; ++i)
            write(w * kWord + i, (word & kBits[i]) == kBits[i]);
    }
    for (std::size_t i = whole * kWord; i < count; ++i)
        write(i, (words[whole] & kBits[i % kWord]) != 0);
}

/// y[i] = max(x[i], 0), with a bit for each y[i] > 0. A NaN stays one. x may be y.
void relu(const float* x, float* y, std::uint32_t* words, std::size_t count);
/// out[i] = in[i] * scale where bit i is set, and 0 elsewhere. `in` may be `out`.
void apply(const std::uint32_t* words, const float* in, float* out, std::size_t count, float scale = 1);

}  // namespace dither::mask
