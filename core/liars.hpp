// Clients that lie: how many a round must survive and what that takes, and who they are in a simulation.
#pragma once

#include <cstdint>
#include <vector>

namespace dither {

struct FederationOptions;

/// How many of a cohort may lie: aggregation.faulty * cohort, rounded down.
std::uint32_t liars_borne(const FederationOptions& federation);
/// Of how many updates aggregation.kind can make something that so many liars do not decide: 4 f + 3 for bulyan, 2 f +
/// 3 for krum and multi_krum, 1 for the mean, 2 f + 1 for the others.
std::uint64_t fewest_updates(const FederationOptions& federation);

/// The clients of a simulation that attack: attack.share * clients of them, rounded down, the same in all rounds. A
/// pure function of the seed, known alike to aggregator and nodes. Immutable.
class Attackers {
public:
    Attackers(const FederationOptions& federation, std::uint32_t seed);

    bool contains(std::uint32_t client) const;
    std::size_t size() const { return clients_.size(); }

private:
    std::vector<std::uint32_t> clients_;  ///< ascending
};

}  // namespace dither
