// What a round sends to every client: the plan, the grids and the model, whole or as what changed since the one that
// the client holds, within the job's byte budget. Private to the aggregator.
#pragma once

#include "aggregator/combination.hpp"
#include "aggregator/controller.hpp"
#include "aggregator/history.hpp"
#include "core/config.hpp"
#include "core/model/schema.hpp"
#include "transport/codec.hpp"
#include "transport/expectation.hpp"
#include "transport/messages.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dither {

/// Why the links' grids are what they are.
struct GridChoice {
    std::vector<PlanChange> changes;  ///< of the links' widths
    std::string budget;               ///< what precision.byte_budget made of them; empty where it did not bind
};

/// Borrows all that it is given. The same controller, history and model give the same broadcast.
class Broadcast {
public:
    /// `counted`: of each client the last round in which its update was counted; 0: none.
    Broadcast(const Job& job, const Schema& schema, const History& history, const std::vector<std::uint32_t>& counted);

    bool sends_changes() const { return sends_changes_; }
    /// Chooses the grids of round `round` and, where whole models are sent, encodes `model` on them: several times
    /// where the byte budget binds. `before`: the plan that ran last. `model` is borrowed until the next prepare().
    /// `scratch` is as large, and free.
    GridChoice prepare(std::uint32_t round, std::span<const float> model, const PrecisionPlan& before,
                       Controller& controller, std::span<float> scratch);
    /// The round that was prepared last, 0 for none.
    std::uint32_t round() const { return task_.round; }
    /// What it sends, but for what differs between clients; once. Where whole models are sent, theirs is in it, and not
    /// here any more.
    RoundPlan take_task();
    /// So many bytes may the payload of round `round`'s change take, for all that the round's clients are sent to stay
    /// within half the byte budget; infinite without one. `counted_now`: the updates of the round before, in ascending
    /// order of clients, who hold its model.
    double most_change_bytes(std::uint32_t round, std::span<const WeightedReport> counted_now) const;
    /// What both ends know of the round's updates; nullptr for nothing.
    const Expectation* expectation() const { return expectation_ ? &*expectation_ : nullptr; }

    /// The round that the parts for a node build on which holds the model of round `held` (0: none, but every node can
    /// make that of round 1); 0 if it needs a whole model.
    std::uint32_t base_for(std::uint32_t held) const { return sends_changes_ ? history_.base_for(held) : 0; }
    /// The parts on `base`, where changes are sent, and what they take in a plan.
    std::vector<ModelPart> parts(std::uint32_t base) const;
    std::uint64_t parts_bytes(std::uint32_t base) const;

private:
    void encode(const Controller& controller);
    /// What nodes will decode: the model's hash, and what the uplink may be coded by.
    void foresee(std::span<float> scratch);
    void decode(const Codec& codec, const ModelPart& part, std::span<float> out) const;
    /// Of the whole round, both directions.
    double expected_bytes(const Controller& controller) const;
    const ModelPart* newest() const;  ///< the change of the prepared round; nullptr where there is none

    const Job& job_;
    const Schema& schema_;
    const History& history_;
    const std::vector<std::uint32_t>& counted_;
    bool sends_changes_;
    std::unique_ptr<Codec> whole_codec_;
    std::unique_ptr<Codec> change_codec_;
    std::size_t plan_bytes_;    ///< of a plan on the wire beside its parts
    std::size_t answer_bytes_;  ///< of an update beside its payload, and of the answers to it
    std::vector<std::uint32_t> asked_;
    std::span<const float> model_;
    RoundPlan task_;
    std::optional<Expectation> expectation_;
};

/// The clients that round `round` asks: cohort * over_select, rounded up, but never more than there are; ascending.
std::vector<std::uint32_t> clients_of_round(const Job& job, std::uint32_t round);

}  // namespace dither
