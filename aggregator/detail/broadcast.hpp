// What a round sends to every client: the plan, the grids and the encoded model, within the job's byte budget. Private
// to the aggregator.
#pragma once

#include "aggregator/controller.hpp"
#include "core/config.hpp"
#include "core/model/schema.hpp"
#include "transport/codec.hpp"
#include "transport/messages.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dither {

/// Why the links' grids are what they are.
struct GridChoice {
    std::vector<PlanChange> changes;  ///< of the links' widths
    std::string budget;               ///< what precision.byte_budget made of them; empty where it did not bind
};

/// Borrows the job and the schema. The same controller and model give the same broadcast.
class Broadcast {
public:
    Broadcast(const Job& job, const Schema& schema);

    /// Chooses the grids of round `round` and encodes `model` on them: several times where the byte budget binds.
    GridChoice prepare(std::uint32_t round, std::span<const float> model, Controller& controller);
    /// The round that was prepared last, 0 for none, and what it sends, but for client and probe.
    std::uint32_t round() const { return task_.round; }
    RoundPlan task() const { return task_; }

private:
    void encode(std::uint32_t round, std::span<const float> model, const Controller& controller);
    /// Of the whole round, both directions.
    double expected_bytes(const Controller& controller) const;

    const Job& job_;
    const Schema& schema_;
    std::uint32_t asked_;  ///< clients
    std::unique_ptr<Codec> codec_;
    std::size_t update_overhead_;  ///< bytes of an update on the wire beside its payload
    RoundPlan task_;
    std::vector<float> decoded_;  ///< the model as nodes decode it
};

/// How many clients a round asks: cohort * over_select, rounded up; never more than there are.
std::uint32_t clients_to_ask(const FederationOptions& options);

}  // namespace dither
