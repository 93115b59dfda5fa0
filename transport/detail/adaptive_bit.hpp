// Probabilities that learn, and their mixing, in integers alone: both ends of a payload must agree bit for bit.
//
// stretch(p) = ln(p / (1 - p)) and squash, its inverse, in 1/256 (Mahoney, "Adaptive weighing of context models for
// lossless data compression", 2005, whose logistic mixing this is).
#pragma once

#include "transport/detail/range_coder.hpp"

#include <array>
#include <cstdint>

namespace dither::detail {

inline constexpr std::int32_t kCertainty = 256 * 11;  ///< the largest that squash tells apart: 2^-16

/// e^x from + - * / alone: the same on every machine. |x| <= 2^10; the error is far below what tables of it resolve.
constexpr double exponential(double x) {
    double halved = x / 1024;
    double term = 1;
    double sum = 1;
    for (int n = 1; n < 16; ++n) {
        term *= halved / n;
        sum += term;
    }
    for (int n = 0; n < 10; ++n)
        sum *= sum;
    return sum;
}

constexpr std::uint16_t to_probability(double p) {
    const double scaled = p * 65536 + 0.5;
    return static_cast<std::uint16_t>(scaled < 1 ? 1 : scaled > 65535 ? 65535 : scaled);
}

inline constexpr auto kSquash = [] {
    std::array<std::uint16_t, 2 * kCertainty + 1> table{};
    for (std::int32_t x = -kCertainty; x <= kCertainty; ++x)
        table[static_cast<std::size_t>(x + kCertainty)] = to_probability(1 / (1 + exponential(-x / 256.0)));
    return table;
}();

constexpr std::uint32_t squash(std::int32_t x) {
    const auto place = static_cast<std::uint32_t>(x + kCertainty);
    // Here and below branches, which are foreseen and cost nothing: the next bit would have to wait for a clamp.
    if (place > 2 * kCertainty) [[unlikely]]
        return kSquash[x < 0 ? 0 : 2 * kCertainty];
    return kSquash[place];
}

/// Of the middle of each 2^-12: the last x at which squash is not above it.
inline constexpr auto kStretch = [] {
    std::array<std::int16_t, 4096> table{};
    std::int32_t x = -kCertainty;
    for (std::uint32_t i = 0; i < table.size(); ++i) {
        while (x < kCertainty && squash(x + 1) <= 16 * i + 8)
            ++x;
        table[i] = static_cast<std::int16_t>(x);
    }
    return table;
}();

/// The probability of a one, estimated from the bits so far: their mean at first, later an exponential average.
class AdaptiveBit {
public:
    /// As if `weight` bits had been seen.
    constexpr AdaptiveBit(std::uint16_t probability = 32768, std::uint32_t weight = 0)
        : state_(std::uint32_t{probability} << 16 | weight) {}

    std::uint32_t probability() const { return state_ >> 16; }
    std::int32_t stretched() const { return kStretch[state_ >> 20]; }
    void learn(bool bit) {
        const std::uint32_t seen = state_ & kSeenMask;
        const auto p = static_cast<std::int64_t>(state_ >> kSeenBits);
        const std::int64_t target = -static_cast<std::int64_t>(bit) & kOne;
        const auto step = static_cast<std::uint32_t>((target - p) * kRates[seen] >> 16);
        state_ += (step << kSeenBits) + (seen < kMostSeen ? 1 : 0);
    }
    /// Codes a bit as likely as bits so far were, and learns from it. Returns it.
    template <typename Coder>
    bool code(Coder& coder, bool bit) {
        if (coder.code(bit, possible())) {  // a branch for each bit: what follows knows it
            learn(true);
            return true;
        }
        learn(false);
        return false;
    }
    /// The same, for bits that a processor would guess wrong nearly as often as not.
    template <typename Coder>
    bool code_unguessed(Coder& coder, bool bit) {
        const bool coded = coder.code_unguessed(bit, possible());
        learn(coded);
        return coded;
    }

private:
    static constexpr unsigned kSeenBits = 10;
    static constexpr std::uint32_t kSeenMask = (1U << kSeenBits) - 1;
    static constexpr std::uint32_t kMostSeen = 255;
    static constexpr std::int64_t kOne = (1 << 22) - 1;
    std::uint32_t possible() const { return probability() + (probability() == 0 ? 1 : 0); }
    /// 1 / (seen + 1.5): that of Krichevsky and Trofimov.
    static constexpr auto kRates = [] {
        std::array<std::int64_t, kMostSeen + 1> rates{};
        for (std::size_t seen = 0; seen < rates.size(); ++seen)
            rates[seen] = static_cast<std::int64_t>(2 * 65536 / (2 * seen + 3));
        return rates;
    }();

    std::uint32_t state_;  ///< probability in 22 bits, then bits seen, at most kMostSeen, in 10
};

/// Two opinions mixed in the logistic domain by weights that learn which to trust.
class Mixer {
public:
    std::uint32_t mix(std::int32_t first, std::int32_t second) const {
        return squash(static_cast<std::int32_t>((std::int64_t{first_} * first + std::int64_t{second_} * second) >> 16));
    }
    /// `error`: the bit in 2^-16 less the probability that was mixed.
    void learn(std::int32_t first, std::int32_t second, std::int32_t error) {
        first_ = moved(first_, first, error);
        second_ = moved(second_, second, error);
    }

private:
    static std::int32_t moved(std::int32_t weight, std::int32_t input, std::int32_t error) {
        constexpr unsigned kShift = 16;
        const auto step = static_cast<std::int32_t>((std::int64_t{input} * error + (1 << (kShift - 1))) >> kShift);
        const std::int32_t next = weight + step;
        if (next < -kLimit || next > kLimit) [[unlikely]]
            return next < 0 ? -kLimit : kLimit;
        return next;
    }
    static constexpr std::int32_t kLimit = 1 << 20;

    std::int32_t first_ = 1 << 15;  ///< in 2^-16
    std::int32_t second_ = 1 << 15;
};

}  // namespace dither::detail
