// A round's updates, kept apart: for rules that compare them and attacks that see them all. Private to the aggregator.
#pragma once

#include "aggregator/detail/attack.hpp"
#include "aggregator/norm_bound.hpp"
#include "aggregator/robust/rule.hpp"
#include "core/config.hpp"
#include "core/liars.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace dither {

/// A float each parameter and update; the memory stays for the next round. Not thread-safe.
class Gathering {
public:
    /// False where a sum will do, which costs one model whatever the cohort.
    static bool is_needed(const FederationOptions& federation);

    Gathering(const FederationOptions& federation, std::uint32_t seed, std::size_t parameters);

    /// Forgets the last round. `bound`: of norms, for the mean.
    void begin(std::uint32_t round, const NormBound& bound);
    /// Where the update of a client, one that has not sent any, is to be written before the next call.
    std::span<float> add(std::uint32_t client, std::uint64_t weight);
    /// What stands for the updates, at least fewest_updates of them, in whatever order they came; once.
    void combine(std::span<float> out);
    /// After that: of what the client's update was when it entered the mean, before it was clipped; robust rules do not
    /// measure it.
    std::optional<double> norm_of(std::uint32_t client) const;

private:
    struct Entry {
        std::uint32_t client = 0;
        std::uint64_t weight = 0;
        std::vector<float> update;
        std::optional<double> norm{};
    };
    void attack();
    void clip();

    std::unique_ptr<RobustRule> rule_;
    Attack attack_;
    double scale_;
    std::optional<Attackers> attackers_;  ///< where there is an attack
    StreamKey key_;
    bool is_mean_;
    NormBound bound_;
    std::size_t parameters_;
    std::vector<Entry> entries_;  ///< the first count_ are this round's
    std::size_t count_ = 0;
};

}  // namespace dither
