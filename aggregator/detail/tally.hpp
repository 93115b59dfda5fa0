// A round's updates from the check to the mean: in one exact sum, or, where that will not do, kept apart (robust rules,
// attacks) or kept for the round that counts them (asynchronous rounds). Private to the aggregator.
#pragma once

#include "aggregator/accumulator.hpp"
#include "aggregator/combination.hpp"
#include "aggregator/detail/broadcast.hpp"
#include "aggregator/detail/gathering.hpp"
#include "aggregator/detail/update_buffer.hpp"
#include "aggregator/detail/update_check.hpp"
#include "aggregator/norm_bound.hpp"
#include "aggregator/strategy.hpp"
#include "core/config.hpp"
#include "transport/codec.hpp"
#include "transport/makers.hpp"
#include "transport/messages.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace dither {

/// Not thread-safe. Borrows everything that it is given.
class Tally {
public:
    Tally(const Job& job, const Schema& schema, const Strategy& strategy, const Makers& makers);

    /// A round of at most so many updates. `task` is what the broadcast's clients are sent; both are borrowed until the
    /// next round.
    void begin(const RoundPlan& task, const Broadcast& broadcast, const NormBound& bound, std::size_t updates);
    /// Why an update of the round cannot be added, empty if it can.
    std::string refusal(const Update& update);

    /// The update that has passed last counts in this round. `asked`, `plan`: of its client.
    WeightedReport add(const Update& update, Probe asked, const PrecisionPlan& plan);
    /// Likewise, in a later one; asynchronous rounds only.
    void hold(const Update& update, Probe asked, const PrecisionPlan& plan);

    /// Nothing, unless an update of this client is held: then it counts in this round.
    std::optional<WeightedReport> add_held(std::uint32_t client);
    /// What is held of it is of no use.
    void drop_held(std::uint32_t client);
    void drop_all_held();

    /// What stands for the updates that were added, at least one. Once. It is in scratch(). `reports` are theirs; where
    /// attackers replaced updates, it puts the norms of what they sent there.
    std::span<float> mean(std::span<WeightedReport> reports);
    /// A model's worth of memory, the caller's between two rounds.
    std::span<float> scratch() { return accumulator_.memory(); }

private:
    Terms terms_of(std::uint32_t client) const;
    WeightedReport report_of(const Update& update, Probe asked, const PrecisionPlan& plan) const;

    const FederationOptions& federation_;
    std::uint32_t seed_;
    const Strategy& strategy_;
    std::unique_ptr<Codec> codec_;  ///< uplink
    UpdateCheck check_;
    Accumulator accumulator_;
    std::optional<Gathering> gathering_;
    std::optional<UpdateBuffer> buffer_;
    const RoundPlan* task_ = nullptr;
    const Broadcast* broadcast_ = nullptr;
    NormBound bound_;
};

}  // namespace dither
