// A place's error falls with its bits as a convex function, since variance_factor is one: every level lies on the lower
// convex hull, and the step from each level to the next is the best that there is. The greedy path visits plans that
// are optimal at their own cost. Between two of them lies a gap as wide as a step of the largest place, so that the
// choice is made among the path's plans and all that differ from one of them in a single place. The same candidates for
// every limit make the choice monotone.
#include "core/precision/allocation.hpp"

#include "core/error.hpp"
#include "core/precision/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>

namespace dither {
namespace {

/// What a place's levels bring.
struct Ladder {
    std::vector<int> bits;
    std::vector<double> errors;  ///< of infinite ones: relative to that at kSensitivityBits
    std::vector<double> costs;
    bool bounded = true;

    std::size_t top() const { return bits.size() - 1; }
};

Ladder ladder_of(const BitPlace& place, const Levels& levels) {
    Ladder ladder;
    ladder.bounded = std::isfinite(place.error);
    for (const int bits : levels.bits()) {
        if (bits < place.least || bits > place.most)
            continue;
        const double error = (ladder.bounded ? place.error : 1) * remaining_error(place, bits);
        if (place.error > 0 && !ladder.bits.empty() && error >= ladder.errors.back())
            continue;  // 16 bits of a float beside wider integers
        ladder.bits.push_back(bits);
        ladder.errors.push_back(error);
        ladder.costs.push_back(place.cost * bits);
    }
    require(!ladder.bits.empty(), "no level between {} and {} bits", place.least, place.most);
    return ladder;
}

/// The rung that each place stands on.
using Rungs = std::vector<std::size_t>;

/// Sums over the places. Errors of infinite places come first: they count more than all others.
struct Outcome {
    double infinite = 0;
    double error = 0;
    double cost = 0;

    bool errs_less(const Outcome& other) const {
        return infinite != other.infinite ? infinite < other.infinite
               : error != other.error     ? error < other.error
                                          : cost < other.cost;
    }
    bool costs_less(const Outcome& other) const { return cost != other.cost ? cost < other.cost : errs_less(other); }
};

Outcome operator+(const Outcome& a, const Outcome& b) {
    return {a.infinite + b.infinite, a.error + b.error, a.cost + b.cost};
}

Outcome outcome_of(const Ladder& ladder, std::size_t rung) {
    const double error = ladder.errors[rung];
    return {ladder.bounded ? 0 : error, ladder.bounded ? error : 0, ladder.costs[rung]};
}

/// The place whose next step takes away the most error for its cost; none where no step takes any away.
std::optional<std::size_t> best_step(std::span<const Ladder> ladders, const Rungs& rungs) {
    std::optional<std::size_t> best;
    double best_gain = 0;
    for (std::size_t i = 0; i < ladders.size(); ++i) {
        const Ladder& ladder = ladders[i];
        if (rungs[i] == ladder.top())
            continue;
        const double relief = ladder.errors[rungs[i]] - ladder.errors[rungs[i] + 1];
        const double gain = relief / (ladder.costs[rungs[i] + 1] - ladder.costs[rungs[i]]);
        const bool preferred = best && ladder.bounded != ladders[*best].bounded ? !ladder.bounded : gain > best_gain;
        if (relief > 0 && preferred) {
            best = i;
            best_gain = gain;
        }
    }
    return best;
}

std::vector<Ladder> ladders_of(std::span<const BitPlace> places, const Levels& levels) {
    std::vector<Ladder> ladders;
    for (const BitPlace& place : places)
        ladders.push_back(ladder_of(place, levels));
    return ladders;
}

/// The best candidate that is allowed, in bits; `otherwise` where none is. Sums over the places before and behind the
/// one that differs make a candidate cost nothing but itself: path * places * levels in all.
template <typename Allowed, typename Better>
std::vector<int> choose_bits(std::span<const Ladder> ladders, Rungs otherwise, Allowed&& allowed, Better&& better) {
    const std::size_t count = ladders.size();
    std::optional<Outcome> best;
    Rungs chosen = std::move(otherwise);
    Rungs rungs(count, 0);
    std::vector<Outcome> behind(count + 1);  // of the places from i on
    const auto consider = [&](const Outcome& outcome, std::size_t place, std::size_t rung) {
        if (!allowed(outcome) || (best && !better(outcome, *best)))
            return;
        best = outcome;
        chosen = rungs;
        if (place < count)
            chosen[place] = rung;
    };
    for (std::optional<std::size_t> step = count; step; step = best_step(ladders, rungs)) {
        if (*step < count)
            ++rungs[*step];
        for (std::size_t i = count; i-- > 0;)
            behind[i] = outcome_of(ladders[i], rungs[i]) + behind[i + 1];
        consider(behind[0], count, 0);
        Outcome before;
        for (std::size_t i = 0; i < count; ++i) {
            for (std::size_t rung = 0; rung <= ladders[i].top(); ++rung)
                if (rung != rungs[i])
                    consider(before + outcome_of(ladders[i], rung) + behind[i + 1], i, rung);
            before = before + outcome_of(ladders[i], rungs[i]);
        }
        if (count == 0)
            break;
    }
    std::vector<int> bits;
    for (std::size_t i = 0; i < count; ++i)
        bits.push_back(ladders[i].bits[chosen[i]]);
    return bits;
}

}  // namespace

double variance_factor(int bits) {
    require((bits >= 2 && bits <= 16) || bits == kFullBits, "the variance of rounding to {} bits", bits);
    if (bits == kFullBits)
        return 0;
    constexpr double kReach = (1 << (kSensitivityBits - 1)) - 1;
    constexpr int kFloatBits = 16;       // bf16
    constexpr int kSignificantBits = 8;  // of them
    const double reach = (1 << (bits == kFloatBits ? kSignificantBits : bits - 1)) - 1;
    return (kReach / reach) * (kReach / reach);
}

double remaining_error(const BitPlace& place, int bits) {
    const double factor = variance_factor(bits);
    if (!place.kinked)
        return factor;
    const double root = std::cbrt(factor);
    return root * root;
}

std::vector<int> cheapest_within_error(std::span<const BitPlace> places, const Levels& levels, double error) {
    std::vector<Ladder> ladders = ladders_of(places, levels);
    Rungs most;
    for (Ladder& ladder : ladders) {
        if (!ladder.bounded)
            ladder = {.bits = {ladder.bits.back()},
                      .errors = {ladder.errors.back()},
                      .costs = {ladder.costs.back()},
                      .bounded = false};
        most.push_back(ladder.top());
    }
    return choose_bits(
        ladders, most, [error](const Outcome& o) { return o.error <= error; },
        [](const Outcome& a, const Outcome& b) { return a.costs_less(b); });
}

std::vector<int> best_within_cost(std::span<const BitPlace> places, const Levels& levels, double cost) {
    const std::vector<Ladder> ladders = ladders_of(places, levels);
    return choose_bits(
        ladders, Rungs(ladders.size(), 0), [cost](const Outcome& o) { return o.cost <= cost; },
        [](const Outcome& a, const Outcome& b) { return a.errs_less(b); });
}

double error_of(std::span<const BitPlace> places, std::span<const int> bits) {
    require(places.size() == bits.size(), "bits for {} places, expected {}", bits.size(), places.size());
    double sum = 0;
    for (std::size_t i = 0; i < places.size(); ++i)
        if (const double factor = remaining_error(places[i], bits[i]); factor > 0)
            sum += places[i].error * factor;
    return sum;
}

double cost_of(std::span<const BitPlace> places, std::span<const int> bits) {
    require(places.size() == bits.size(), "bits for {} places, expected {}", bits.size(), places.size());
    double sum = 0;
    for (std::size_t i = 0; i < places.size(); ++i)
        sum += places[i].cost * bits[i];
    return sum;
}

}  // namespace dither
