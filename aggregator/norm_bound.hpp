// How long an update may be: a client that sends more than others do is heard, but no louder.
//
// Norm clipping (Sun, Kairouz, Suresh, McMahan, "Can you really backdoor federated learning?", 2019) with a bound that
// follows the federation: a multiple of the median norm of the last committed round's updates, which a minority of
// liars cannot move far.
#pragma once

#include "aggregator/combination.hpp"

#include <cstdint>
#include <span>

namespace dither {

/// A value.
class NormBound {
public:
    /// `factor`: federation.aggregation.clip; 0: updates may be of any length.
    explicit NormBound(double factor = 0) : factor_(factor) {}

    /// The lower median of the norms of the last round that was learnt from; 0: none yet, or of no length.
    double typical() const { return typical_; }
    void restore(double typical) { typical_ = typical; }
    /// From a committed round's updates, in any order.
    void learn(std::span<const WeightedReport> reports);

    /// The largest norm that counts in full; infinite without a bound.
    double largest() const;
    /// The share of an update of this norm that counts: min(1, largest / norm).
    double share(double norm) const;
    /// What an update of this weight and norm counts for in the sum, while it weighs `weight` in its total: weight *
    /// share, rounded down, so that sums stay integers and nothing is longer than the bound.
    std::uint64_t counted(std::uint64_t weight, double norm) const;

private:
    double factor_;
    double typical_ = 0;
};

}  // namespace dither
