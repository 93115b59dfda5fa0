#include "transport/detail/trellis.hpp"

#include "core/error.hpp"
#include "core/simd.hpp"

#include <algorithm>

namespace dither::detail {
namespace {

constexpr std::size_t kHalf = kTrellisStates / 2;
constexpr std::int16_t kUnreached = 12000;  // above what a path can cost more than another: 6 steps
constexpr std::int32_t kCycle = 4 * TrellisSearch::kResolution;  // after it the subsets repeat

/// States p and p + kHalf lead to 2p and 2p + 1; which subset each of the four branches takes follows from two bits.
struct Branches {
    std::array<std::int16_t, kHalf> odd{};      ///< -1: the states' levels are odd
    std::array<std::int16_t, kHalf> swapped{};  ///< -1: from p to 2p is the upper subset
};

constexpr Branches make_branches() {
    Branches branches;
    for (unsigned p = 0; p < kHalf; ++p) {
        branches.odd[p] = trellis_parity(p) != 0 ? -1 : 0;
        branches.swapped[p] = trellis_next(p, 0) == 2 * p ? 0 : -1;
    }
    return branches;
}

constexpr Branches kBranches = make_branches();

constexpr bool halves_mirror_each_other() {
    for (unsigned p = 0; p < kHalf; ++p)
        if (trellis_parity(p) != trellis_parity(p + kHalf) || trellis_next(p, 0) != trellis_next(p + kHalf, 1))
            return false;
    return true;
}
static_assert(halves_mirror_each_other());

/// The subset of the branch out of a state, by 2 * state + the bit that it chooses.
constexpr std::array<std::uint8_t, 2 * kTrellisStates> make_subsets() {
    std::array<std::uint8_t, 2 * kTrellisStates> subsets{};
    for (unsigned state = 0; state < kTrellisStates; ++state)
        for (const unsigned half : {0U, 1U})
            subsets[2 * state + trellis_next(state, half) % 2] =
                static_cast<std::uint8_t>(2 * half + trellis_parity(state));
    return subsets;
}

constexpr std::array<std::uint8_t, 2 * kTrellisStates> kSubsets = make_subsets();

/// costs of a position's nearest level in subset j.
DITHER_CLONES void measure_subset(const std::int16_t* positions, std::size_t count, std::int32_t subset,
                                  std::int32_t penalty, std::int16_t* costs) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::int32_t up = (positions[i] - TrellisSearch::kResolution * subset) & (kCycle - 1);
        const std::int32_t distance = up < kCycle - up ? up : kCycle - up;
        costs[i] = static_cast<std::int16_t>(distance * distance + penalty);
    }
}

struct SubsetCosts {
    const std::int16_t* of[4];
};

/// Viterbi's recursion. Metrics count from that of state 0, so that they stay within 16 bits.
DITHER_CLONES void survive(const SubsetCosts& costs, std::size_t count, std::int16_t* metrics,
                           std::uint8_t* decisions) {
    alignas(64) std::array<std::int16_t, kTrellisStates> old;
    alignas(64) std::array<std::int16_t, kTrellisStates> now;
    alignas(64) const Branches branches = kBranches;
    std::copy_n(metrics, kTrellisStates, now.begin());
    for (std::size_t t = 0; t < count; ++t, decisions += kTrellisStates) {
        old = now;
        const std::int16_t base = old[0];
        const std::int16_t even0 = costs.of[0][t], even1 = costs.of[2][t];
        const auto odd0 = static_cast<std::int16_t>(costs.of[1][t] ^ even0);
        const auto odd1 = static_cast<std::int16_t>(costs.of[3][t] ^ even1);
        for (std::size_t p = 0; p < kHalf; ++p) {
            const auto lower = static_cast<std::int16_t>(even0 ^ (branches.odd[p] & odd0));
            const auto upper = static_cast<std::int16_t>(even1 ^ (branches.odd[p] & odd1));
            const auto swap = static_cast<std::int16_t>(branches.swapped[p] & (lower ^ upper));
            const auto straight = static_cast<std::int16_t>((lower ^ swap) - base);
            const auto crossed = static_cast<std::int16_t>((upper ^ swap) - base);
            const auto a = static_cast<std::int16_t>(old[p] + straight);
            const auto b = static_cast<std::int16_t>(old[p + kHalf] + crossed);
            const auto c = static_cast<std::int16_t>(old[p] + crossed);
            const auto d = static_cast<std::int16_t>(old[p + kHalf] + straight);
            now[2 * p] = b < a ? b : a;
            now[2 * p + 1] = d < c ? d : c;
            decisions[p] = b < a;
            decisions[p + kHalf] = d < c;
        }
    }
    std::copy(now.begin(), now.end(), metrics);
}

}  // namespace

TrellisSearch::TrellisSearch(std::int32_t odd_penalty)
    : odd_penalty_(odd_penalty), decisions_(kBlock * kTrellisStates) {
    require(odd_penalty >= -1024 && odd_penalty <= 1024, "a penalty of {}", odd_penalty);
    for (auto& costs : costs_)
        costs.resize(kBlock);
}

void TrellisSearch::measure(std::span<const std::int16_t> positions) {
    const std::int32_t odd = std::max(odd_penalty_, 0);
    const std::int32_t even = std::max(-odd_penalty_, 0);
    for (std::size_t subset = 0; subset < costs_.size(); ++subset)
        measure_subset(positions.data(), positions.size(), static_cast<std::int32_t>(subset),
                       subset % 2 != 0 ? odd : even, costs_[subset].data());
}

void TrellisSearch::next(std::span<const std::int16_t> positions, std::span<std::int16_t> levels) {
    require(positions.size() <= kBlock && levels.size() == positions.size(), "a block of {} positions",
            positions.size());
    measure(positions);
    metrics_.fill(kUnreached);
    metrics_[state_] = 0;
    survive({{costs_[0].data(), costs_[1].data(), costs_[2].data(), costs_[3].data()}}, positions.size(),
            metrics_.data(), decisions_.data());
    trace_back(positions, levels);
}

void TrellisSearch::trace_back(std::span<const std::int16_t> positions, std::span<std::int16_t> levels) {
    auto state = static_cast<unsigned>(std::min_element(metrics_.begin(), metrics_.end()) - metrics_.begin());
    state_ = state;
    for (std::size_t t = positions.size(); t-- > 0;) {
        const unsigned lower = state / 2;
        const unsigned bit = state % 2;
        const bool from_upper_half = decisions_[t * kTrellisStates + lower + bit * kHalf] != 0;
        const auto before = static_cast<unsigned>(lower + (from_upper_half ? kHalf : 0));
        const std::int32_t subset = kSubsets[2 * before + bit];
        const std::int32_t cycles = (positions[t] - kResolution * subset + kCycle / 2) >> 6;
        levels[t] = static_cast<std::int16_t>(4 * cycles + subset);
        state = before;
    }
}

}  // namespace dither::detail
