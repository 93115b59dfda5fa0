// The programs of simulated nodes: the production session in the hands of chance, and a stranger that says what no node
// may say.
#pragma once

#include "core/rng.hpp"
#include "node/session.hpp"
#include "tests/simulation/scenario.hpp"
#include "transport/simulated.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

namespace dither::simulation {

inline constexpr std::string_view kComplete = "the run is complete";

/// What a node is, whichever of its lives it is in.
struct NodeSetup {
    SessionSetup session;
    StreamKey key;      ///< of its own random numbers
    Company company{};  ///< what it does wrong
    /// Whether it still does so.
    std::function<bool()> goes_wrong;
    /// Whether the client takes part in the round, where that is prescribed; null: it does. Else it has failed.
    std::function<bool(std::uint32_t round, std::uint32_t client)> attends = nullptr;
    /// The client that it was welcomed as.
    std::function<void(std::uint32_t client)> welcomed = nullptr;
};

/// `life`: 1 at its first start. Borrows the setup.
std::unique_ptr<SimulatedNode> make_honest_node(const NodeSetup& setup, std::uint32_t life);

/// `clients` of the job. Never goes beyond what anyone can say who is not let in.
std::unique_ptr<SimulatedNode> make_stranger(const StreamKey& key, std::uint32_t clients);

}  // namespace dither::simulation
