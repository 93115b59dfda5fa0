// How coarse the grids of a round must be for its bytes to stay within a budget. Private to the aggregator.
#pragma once

#include <functional>

namespace dither {

/// Of the budget, so much is left in hand: what a round really takes is known when it is over.
inline constexpr double kBudgetInHand = 0.05;

struct Fitted {
    double coarseness = 1;
    double bytes = 0;       ///< expected at that
    bool fits = false;      ///< they are within the limit
    bool coarsest = false;  ///< no grid could be coarser
};

/// Goes from a coarseness of 1 up until `bytes_at` it is at most `limit`, or `can_be_coarser` no more. Making grids c
/// times as coarse saves at most log2(c) bits on each of `coordinates`: each step goes as far as that asks for, so that
/// few evaluations, which encode a model, suffice and none goes too far. Coarsenesses are powers of 2^(1/16), the same
/// on every machine; it gives up after 24.
Fitted fit_coarseness(double limit, double coordinates, const std::function<double(double)>& bytes_at,
                      const std::function<bool()>& can_be_coarser);

}  // namespace dither
