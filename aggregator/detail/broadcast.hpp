// What a round sends to every client: the plan, the grids and the model, whole or as what changed since the one that
// the client holds, within the job's byte budget. Private to the aggregator.
#pragma once

#include "aggregator/combination.hpp"
#include "aggregator/controller.hpp"
#include "aggregator/history.hpp"
#include "aggregator/per_client.hpp"
#include "aggregator/strategy.hpp"
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

/// Borrows all that it is given. The same controller, history, strategy and model give the same broadcast.
class Broadcast {
public:
    /// `counted`: of each client the round whose model its last counted update started from; 0: none.
    Broadcast(const Job& job, const Schema& schema, const History& history, const PerClient<std::uint32_t>& counted,
              const Strategy& strategy, const Makers& makers);

    bool sends_changes() const { return sends_changes_; }
    /// Chooses the grids of round `round` and, where whole models are sent, encodes `model` on them: several times
    /// where the byte budget binds. `before`: the plan that ran last. `model` is borrowed until the next prepare().
    /// `scratch` is as large, and free. `asked`: whom the round asks, ascending: whose bytes the budget is for.
    GridChoice prepare(std::uint32_t round, std::vector<std::uint32_t> asked, std::span<const float> model,
                       const PrecisionPlan& before, Controller& controller, std::span<float> scratch);
    /// The round that was prepared last, 0 for none.
    std::uint32_t round() const { return task_.round; }
    /// What it sends, but for what differs between clients; once. Where whole models are sent, theirs is in it, and not
    /// here any more.
    RoundPlan take_task();
    /// So many bytes may the payload of the next round's change take, for all that the clients that it asks are sent to
    /// stay within half the byte budget; infinite without one. `counted_now`: the updates of the round before, in
    /// ascending order of clients, who hold the models that they started from.
    double most_change_bytes(std::span<const std::uint32_t> asked, std::span<const WeightedReport> counted_now) const;
    /// What a client's link carries in the prepared round.
    std::uint64_t download_bytes(std::uint32_t client) const;
    double upload_bytes(double payload_bytes) const;
    /// What both ends know of the round's updates; nullptr for nothing.
    const Expectation* expectation() const { return expectation_ ? &*expectation_ : nullptr; }

    /// The round that the parts for a node build on which holds the model of round `held` (0: none, but every node can
    /// make that of round 1); 0 if it needs a whole model.
    std::uint32_t base_for(std::uint32_t held) const { return sends_changes_ ? history_.base_for(held) : 0; }
    /// The parts on `base`, where changes are sent.
    std::vector<ModelPart> parts(std::uint32_t base) const;
    /// What goes with the parts on base 0; no bytes where there is no control variate.
    SharedBytes control() const;
    /// Of both.
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
    const PerClient<std::uint32_t>& counted_;
    const Strategy& strategy_;
    bool sends_changes_;
    std::unique_ptr<Codec> whole_codec_;
    std::unique_ptr<Codec> change_codec_;
    std::size_t plan_bytes_;         ///< of a plan on the wire beside its parts
    std::size_t update_bytes_;       ///< of an update beside its payload
    std::size_t answer_bytes_;       ///< of the answers to it
    std::uint64_t whole_bytes_ = 0;  ///< of the parts of a task of whole models
    std::vector<std::uint32_t> asked_;
    std::span<const float> model_;
    RoundPlan task_;
    std::optional<Expectation> expectation_;
};

}  // namespace dither
