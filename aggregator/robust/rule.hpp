// What stands for a cohort's updates where some of them may be lies. In all rules but the mean each update has one
// vote: what a client says of its samples is as good as the client.
//
// To add a rule: one file in aggregator/robust/rules/, its constructor in robust/detail/rules.hpp, its row in the table
// of rule.cpp, its name and meaning among the choices of core/detail/federation_options.cpp, and how many updates it
// needs in core/liars.cpp.
#pragma once

#include "aggregator/robust/cohort.hpp"

#include <memory>
#include <span>

namespace dither {

struct FederationOptions;

/// Immutable and deterministic: the order of the cohort decides between equals, and nothing else depends on it but the
/// last bits.
class RobustRule {
public:
    virtual ~RobustRule() = default;

    /// Writes what stands for the updates of a cohort of at least fewest_updates (core/liars.hpp); out: a float each
    /// parameter.
    virtual void combine(Cohort& cohort, std::span<float> out) const = 0;
};

/// With n updates x_i, f of which may lie (liars_borne; whatever n is), and distances Euclidean:
///
/// mean               weighted, as the strategy says: bears no liar. What attacks are measured against.
/// median             of each parameter; trimmed_mean: of each parameter the mean without the f largest and f smallest
///                    values: Yin, Chen, Ramchandran, Bartlett, "Byzantine-robust distributed learning: towards optimal
///                    statistical rates", ICML 2018
/// krum               the x_i with the least sum of squared distances to its n - f - 2 nearest neighbours (at least
///                    one); multi_krum: the mean of the n - f with the least sums: Blanchard, El Mhamdi, Guerraoui,
///                    Stainer, "Machine learning with adversaries: Byzantine tolerant gradient descent", NeurIPS 2017
/// bulyan             of n - 2 f updates, each selected by krum among those that are left, for each parameter the mean
///                    of the n - 4 f values nearest to their median: El Mhamdi, Guerraoui, Rouault, "The hidden
///                    vulnerability of distributed learning in Byzantium", ICML 2018
/// geometric_median   the point with the least sum of distances, by the smoothed Weiszfeld iteration: Pillutla, Kakade,
///                    Harchaoui, "Robust aggregation for federated learning", IEEE Transactions on Signal Processing
///                    2022
/// centered_clipping  v += mean of (x_i - v) min(1, radius / |x_i - v|), three times from v = 0: Karimireddy, He,
///                    Jaggi, "Learning from history for Byzantine robust optimization", ICML 2021. radius: the
///                    options'; 0: the median of |x_i - v|, the lower one of two, of each time. From 0, and not from
///                    the last round's result, so that a round depends on nothing but its updates.
///
/// With aggregation.mixing the updates are mixed first (Cohort::mix). Throws InputError on an unknown kind.
std::unique_ptr<RobustRule> make_robust_rule(const FederationOptions& federation);

}  // namespace dither
