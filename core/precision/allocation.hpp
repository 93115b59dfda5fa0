// Bits for many places at the least cost: the one mechanism behind numgeom's target, hawq, budgets and the links'
// grids.
//
// Each place i rounds to p_i bits, which costs cost_i * p_i and adds the error error_i * variance_factor(p_i), errors
// being variances that add up because rounding errors of different places are independent. The choice starts from the
// least levels of all places and takes, again and again, the step up that takes away the most error for its cost: the
// greedy algorithm of Shoham and Gersho, "Efficient bit allocation for an arbitrary set of quantizers", 1988, optimal
// at every cost that it passes through. In between, plans that differ from one of its own in a single place are tried
// too; the result is never more than one step dearer than the optimum.
#pragma once

#include "core/precision/plan.hpp"

#include <span>
#include <vector>

namespace dither {

/// The variance of rounding to `bits`, relative to that at kSensitivityBits: (2^3 - 1)^2 / (2^(bits - 1) - 1)^2, the
/// steps of a symmetric grid over the same range; 0 at 32. 16 bits are taken for bf16, the default, whose 8 significant
/// bits err like codes of 9. Convex over 2..8, 16 and 32. bits: 2..16 or 32, or it throws PreconditionError.
double variance_factor(int bits);

/// A place whose bits are to be chosen.
struct BitPlace {
    double cost = 0;  ///< of one bit, >= 0
    /// Variance that rounding to kSensitivityBits adds, >= 0. What is not finite counts more than all that is: such a
    /// place takes as many bits as it may.
    double error = 0;
    bool kinked = false;   ///< the error falls as variance_factor^(2/3): kinks that units cross outweigh the rounding
    int least = 0;         ///< bits; levels below are not taken
    int most = kFullBits;  ///< likewise above; at least one level lies between, or calls throw PreconditionError
};

/// What of its error a place has at `bits`: variance_factor, or its power of 2/3.
double remaining_error(const BitPlace& place, int bits);

/// The cheapest bits whose summed error is at most `error`, those of infinite places left out, which have their most;
/// each place's most where that is not possible.
std::vector<int> cheapest_within_error(std::span<const BitPlace> places, const Levels& levels, double error);
/// The bits of the least summed error that cost at most `cost`; each place's least where that is not possible.
std::vector<int> best_within_cost(std::span<const BitPlace> places, const Levels& levels, double cost);

/// Sums over the places at `bits`.
double error_of(std::span<const BitPlace> places, std::span<const int> bits);
double cost_of(std::span<const BitPlace> places, std::span<const int> bits);

}  // namespace dither
