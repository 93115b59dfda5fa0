// How likely each integer of the grid is, given what both ends know of it: the u that rounded it, how large its
// coordinate is likely to be, and all the integers before it. In integers alone, so that both ends agree bit for bit.
//
// q is 0 exactly where x / step lies in (u - 1, u]. So what decides is t = min(u, 1 - u), the distance to the near end
// of that interval, against the scale of the coordinate, E|x / step|; and a q that is not 0 is most likely on the near
// side. An integer is coded as bits: is it 0; is it on the near side; and |q| - 1, whose lowest bits, those below a
// quarter of the scale, are as likely as not, in unary up to kUnary and the rest by Exp-Golomb (Teuhola, 1978).
#pragma once

#include "transport/detail/adaptive_bit.hpp"
#include "transport/detail/grid_sections.hpp"
#include "transport/expectation.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <span>

namespace dither::detail {

/// What the model codes is below this in magnitude, so that 256 of it fit into 32 bits.
inline constexpr std::int32_t kLargestModelled = 1 << 22;  // exclusive

/// The random number of a rounding, u = word / 2^24, seen from the nearer of 0 and 1: t = (near + 1/2) / 2^24.
struct Dither {
    bool upper;          ///< u >= 1/2: negative integers are on the near side
    std::int32_t level;  ///< log2(t) in sixteenths, -400 to -17
    std::int32_t most;   ///< 1/2 - t in 1/256, rounded down
};

/// Those of at most kGridChunk roundings, made all at once in a loop that vectorizes.
class Dithers {
public:
    /// u is the upper 24 bits of a word.
    void draw(std::span<const std::uint32_t> words);
    Dither operator[](std::size_t i) const { return {sides_[i] < 0, levels_[i], sides_[i] & 0xff}; }

private:
    std::array<std::int32_t, kGridChunk> levels_;
    std::array<std::int32_t, kGridChunk> sides_;  ///< `most`, and the sign bit where u >= 1/2
};

/// What an integer is coded by. It depends on t, not on its side: so the mirror image of u mirrors all probabilities.
struct GridContext {
    /// scale: of the coordinate, in sixteenths of log2.
    GridContext(std::int32_t scale_level, const Dither& t)
        : ratio(within(((scale_level - t.level) >> 2) + kRatios / 2, kRatios)),
          scale(within((scale_level >> 3) + kScaleOfOne, kScales)),
          dither(within((-17 - t.level) >> 2, kDithers)) {}

    static constexpr std::int32_t kRatios = 64;      ///< scale / t, in quarter-octaves: 2^-8 to 2^8
    static constexpr std::int32_t kScales = 64;      ///< scale, in half-octaves
    static constexpr std::int32_t kScaleOfOne = 40;  ///< that of scale 1: 2^-20 to 2^12
    static constexpr std::int32_t kDithers = 48;     ///< t, in quarter-octaves below 1/2: to 2^-13
    std::uint32_t ratio, scale, dither;

private:
    /// Indices hardly ever lie outside: a branch that is foreseen takes no time, as std::clamp would here.
    static std::uint32_t within(std::int32_t index, std::int32_t count) {
        const auto inside = static_cast<std::uint32_t>(index);
        if (inside >= static_cast<std::uint32_t>(count)) [[unlikely]]
            return index < 0 ? 0 : static_cast<std::uint32_t>(count - 1);
        return inside;
    }
};

/// One payload's probabilities. Encoder and decoder run the same code.
class GridModel {
public:
    GridModel();

    struct Coded {
        std::int32_t q;
        std::uint32_t chance;   ///< that q is not 0, in 2^-16, as it was before q was known
        std::int32_t surprise;  ///< how much larger than expected q was, in 2^-16 of a bit of its magnitude
    };
    /// An encoder gives q, |q| < kLargestModelled; a decoder 0, and gets at most
    /// kLargestModelled + 1.
    template <typename Coder>
    Coded code(Coder& coder, const GridContext& at, const Dither& dither, std::int32_t q) {
        AdaptiveBit& by_ratio = by_ratio_[at.ratio];
        AdaptiveBit& by_both = by_both_[at.scale][at.dither];
        Mixer& mixer = mixers_[at.dither / 4];
        const std::int32_t first = by_ratio.stretched();
        const std::int32_t second = by_both.stretched();
        const std::uint32_t chance = mixer.mix(first, second);
        const bool moved = coder.code(q != 0, chance);
        const std::int32_t error = (moved ? 65536 : 0) - static_cast<std::int32_t>(chance);
        mixer.learn(first, second, error);
        by_ratio.learn(moved);
        by_both.learn(moved);
        if (!moved)
            return {0, chance, error};
        return code_moved(coder, at, dither, q, {0, chance, error});
    }

    /// Of the magnitude: those below a quarter of the scale.
    static constexpr unsigned raw_bits(std::uint32_t scale) {
        constexpr std::uint32_t kFour = GridContext::kScaleOfOne + 4;
        return scale < kFour ? 0 : (scale - kFour) / 2;
    }

private:
    static constexpr std::uint32_t kUnary = 15;
    static constexpr std::uint32_t kLongest = 22;  ///< bits behind the prefix of Exp-Golomb

    template <typename Coder>
    Coded code_moved(Coder& coder, const GridContext& at, const Dither& dither, std::int32_t q, Coded coded) {
        const bool near = near_side_[at.scale][at.dither].code_unguessed(coder, (q < 0) == dither.upper);
        const auto rest = static_cast<std::uint32_t>(std::abs(q)) - 1;
        const std::int32_t magnitude = code_magnitude(coder, at, near, rest, coded.surprise);
        coded.q = near == dither.upper ? -magnitude : magnitude;
        return coded;
    }

    template <typename Coder>
    std::int32_t code_magnitude(Coder& coder, const GridContext& at, bool near, std::uint32_t rest,
                                std::int32_t& surprise) {
        const unsigned raw = raw_bits(at.scale);
        auto& larger = larger_[at.scale];
        std::uint32_t place = 2 * std::min(at.dither / 2, 3U) + near;
        std::uint32_t upper = 0;
        for (const std::uint32_t wanted = rest >> raw; upper < kUnary; ++upper) {
            if (upper == 2)  // further up t does not matter
                place = near;
            AdaptiveBit& more = larger[upper][place];
            surprise -= static_cast<std::int32_t>(more.probability());
            if (!more.code(coder, upper < wanted))
                break;
            surprise += 65536;
        }
        if (upper == kUnary)
            upper =
                std::min(kUnary + code_escape(coder, (rest >> raw) - kUnary), std::uint32_t{kLargestModelled} >> raw);
        const std::uint32_t lower = raw == 0 ? 0 : coder.code_raw(rest & ((1U << raw) - 1), raw);
        return std::min(static_cast<std::int32_t>((upper << raw) + lower) + 1, kLargestModelled + 1);
    }

    template <typename Coder>
    std::uint32_t code_escape(Coder& coder, std::uint32_t value) {
        const auto wanted = static_cast<std::uint32_t>(std::bit_width(value + 1) - 1);
        std::uint32_t bits = 0;
        while (bits < kLongest && longer_[bits].code(coder, bits < wanted))
            ++bits;
        std::uint32_t coded = 1;
        for (std::uint32_t left = bits; left > 0; --left)
            coded = coded << 1 | coder.code_raw((value + 1) >> (left - 1) & 1, 1);
        return coded - 1;
    }

    template <typename T>
    using ByPlace = std::array<std::array<T, GridContext::kDithers>, GridContext::kScales>;

    std::array<AdaptiveBit, GridContext::kRatios> by_ratio_;
    ByPlace<AdaptiveBit> by_both_;
    std::array<Mixer, GridContext::kDithers / 4> mixers_;
    ByPlace<AdaptiveBit> near_side_;
    std::array<std::array<std::array<AdaptiveBit, 8>, kUnary>, GridContext::kScales> larger_;
    std::array<AdaptiveBit, kLongest> longer_;
};

/// f = E[q | u, what the model knows], in 1/256. It is antisymmetric in u, and so are all estimates behind it: the mean
/// of f over u is 0, and (q - f) * step is as unbiased as q * step with less variance: a control variate (Hammersley
/// and Handscomb, "Monte Carlo methods", 1964).
class ControlVariate {
public:
    /// Of one integer after the other.
    std::int32_t next(const GridContext& at, const Dither& dither, const GridModel::Coded& coded) {
        // Between 0 and 1/2 - t, its limit at large scales, where q - f becomes subtractive dither (Roberts, 1962).
        const std::int32_t f =
            at.scale < kLarge ? std::clamp(estimate(at, dither, coded), 0, dither.most) : dither.most;
        return dither.upper ? -f : f;
    }

private:
    static constexpr std::uint32_t kLarge = GridContext::kScaleOfOne + 4;  ///< a scale of four steps

    /// P(q != 0) * E[q towards the near side | q != 0], and learns from q.
    std::int32_t estimate(const GridContext& at, const Dither& dither, const GridModel::Coded& coded) {
        constexpr unsigned kSlowness = 6;
        std::int32_t& mean = means_[at.scale][at.dither];
        const std::int64_t scaled = std::int64_t{mean} * coded.chance;
        if (coded.q != 0)
            mean += ((std::clamp(dither.upper ? -coded.q : coded.q, -64, 64) << 16) - mean) >> kSlowness;
        return static_cast<std::int32_t>(scaled >> 24);
    }

    /// In 2^-16.
    std::array<std::array<std::int32_t, GridContext::kDithers>, kLarge> means_ = [] {
        std::array<std::array<std::int32_t, GridContext::kDithers>, kLarge> means;
        for (auto& row : means)
            row.fill(1 << 16);
        return means;
    }();
};

}  // namespace dither::detail
