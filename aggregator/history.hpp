// The newest changes of the global model, as they were broadcast: what brings a client up to date that missed rounds.
#pragma once

#include "transport/messages.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dither {

/// A value. Memory: what push() is told.
struct History {
    std::uint32_t reach = 1;       ///< the earliest round whose model the parts build on; every node can make round 1's
    std::vector<ModelPart> parts;  ///< of the rounds reach + 1, reach + 2, ...

    /// The newest change, of round last() + 1. The oldest parts go, while all take `most_bytes` or more.
    void push(ModelPart part, std::uint64_t most_bytes);
    /// The model of `round` is not what the parts lead to: nothing builds on an earlier one.
    void restart(std::uint32_t round);

    std::uint32_t last() const { return reach + static_cast<std::uint32_t>(parts.size()); }
    /// The round that parts for a node build on which holds the model of round `held`, or none (0) but that of round 1:
    /// that round, or 0 if it needs a whole model.
    std::uint32_t base_for(std::uint32_t held) const;
    /// The parts that follow round `base`, which lies within reach .. last().
    std::span<const ModelPart> since(std::uint32_t base) const;

    bool operator==(const History&) const = default;
};

/// What parts take in the body of a RoundPlan.
std::uint64_t wire_bytes(std::span<const ModelPart> parts);

}  // namespace dither
