// Trellis-coded quantization: of the four interleaved subsets of the integers, a state machine allows two at a time, so
// that a sequence is quantized as finely as by all of them, and coded as if by two (Ungerboeck, "Channel coding with
// multilevel/phase signals", 1982; Marcellin and Fischer, "Trellis coded quantization of memoryless and Gauss-Markov
// sources", IEEE Transactions on Communications, 1990).
//
// A state is the last 6 bits u that were chosen. An even state has the even levels, an odd one the odd levels; level n
// is in subset n mod 4, and which of the state's two subsets it is says the next bit. Levels alone, so, lead the way.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dither::detail {

inline constexpr unsigned kTrellisStates = 64;
/// Ungerboeck's parity-check polynomials of the code of 64 states for amplitude modulation.
inline constexpr unsigned kTrellisParity0 = 0103;
inline constexpr unsigned kTrellisParity1 = 024;

/// 1 if the levels of `state` are the odd ones.
constexpr unsigned trellis_parity(unsigned state) {
    return static_cast<unsigned>(std::popcount((state << 1) & kTrellisParity1)) & 1U;
}

/// Where a level leads whose second bit, (n >> 1) & 1, is `half`.
constexpr unsigned trellis_next(unsigned state, unsigned half) {
    const auto sum = static_cast<unsigned>(std::popcount((state << 1) & kTrellisParity0)) & 1U;
    return ((state << 1) | (half ^ sum)) % kTrellisStates;
}

/// The levels of least cost for a sequence, in blocks that each begin where the last one ended. Not thread-safe.
class TrellisSearch {
public:
    /// A position of 1 is a level. Fractions of positions:
    static constexpr std::int32_t kResolution = 16;
    static constexpr std::size_t kBlock = 2048;

    /// An odd level costs `odd_penalty`, in units of 1 / kResolution^2, more than an even one: |odd_penalty| <= 1024.
    explicit TrellisSearch(std::int32_t odd_penalty);

    /// Of all sequences that the trellis allows after those given before, the one that minimizes
    /// sum (positions[i] / kResolution - levels[i])^2 + odd levels * penalty. (Viterbi 1967.) At most kBlock positions.
    void next(std::span<const std::int16_t> positions, std::span<std::int16_t> levels);

private:
    void measure(std::span<const std::int16_t> positions);
    void trace_back(std::span<const std::int16_t> positions, std::span<std::int16_t> levels);

    std::int32_t odd_penalty_;
    unsigned state_ = 0;
    std::array<std::vector<std::int16_t>, 4> costs_;  ///< of the nearest level of each subset
    std::vector<std::uint8_t> decisions_;             ///< [position][state]: which of two predecessors
    std::array<std::int16_t, kTrellisStates> metrics_{};
};

}  // namespace dither::detail
