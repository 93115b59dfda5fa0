// What the aggregator and the nodes say to each other. Values, the same over loopback, MPI and TCP; README.md has the
// bytes.
//
// Reasons are for logs: printable ASCII, at most 1 KiB. A sender replaces every other character by '?' and cuts the
// rest.
//
// A peer is a connection: a daemon that speaks for its one client, or a worker (thread or MPI rank) that can train any
// client of a simulation. Tasks go to clients, one message each, so that what is counted does not depend on who hosts
// whom.
#pragma once

#include "core/precision/device.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/policy.hpp"
#include "core/precision/statistics.hpp"
#include "core/sha256.hpp"
#include "transport/shared_bytes.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace dither {

/// A worker that hosts every client of a simulation.
inline constexpr std::uint32_t kAnyClient = 0xffffffff;
/// A hello's client: the node speaks for one client, and the aggregator knows or decides for which.
inline constexpr std::uint32_t kAssignedClient = 0xfffffffe;

/// Node to aggregator, once, first.
struct Hello {
    std::string node;                   ///< [a-z0-9_-]{1,64}
    std::uint32_t client = kAnyClient;  ///< the client it speaks for; or kAssignedClient
    Device device{};                    ///< what it executes
    bool operator==(const Hello&) const = default;
};

/// Aggregator to node: it is in, and this is the job (resolved TOML, at most 1 MiB).
struct Welcome {
    std::string job;
    std::uint32_t client = kAnyClient;  ///< that the node speaks for: the hello's, or the one that was assigned to it
    bool operator==(const Welcome&) const = default;
};

/// How a round moves the server's control variate c, which every node of the strategy "scaffold" holds beside the
/// model: c <- keep * c + gain * (the round's change of the model), in floats; c is 0 with the initial model, and stays
/// 0 where tensors are not trained.
struct ControlStep {
    float keep = 1;  ///< 0..1
    float gain = 0;  ///< finite
    bool operator==(const ControlStep&) const = default;
};

/// A model, or what one round changed of it: the model of round r is that of round r - 1 plus the decoded part of round
/// r, in floats.
struct ModelPart {
    std::uint32_t round = 0;               ///< whose model it leads to
    std::vector<float> steps;              ///< one a layer: the grid of this payload; empty: no grid
    SharedBytes payload;                   ///< empty: the round changed nothing
    std::optional<ControlStep> control{};  ///< of a change, where there is a control variate to move
    bool operator==(const ModelPart&) const = default;

    /// In the body of a RoundPlan.
    std::size_t wire_bytes() const;
};

/// Aggregator to node: train this client from this model under this plan, which fits the node's device: nodes of one
/// round may get different ones. The grids are the same for all.
///
/// The model comes in parts. With `base` s > 0 they are the changes of the rounds s + 1 .. round, by the downlink
/// codec, for a node that holds the model of round s; that of round 1 is the job's initial model, which every node can
/// make. With `base` 0 the first part is a whole model and needs none; one more may follow, the change of this round,
/// which the model has already: what the uplink's contexts are made from (transport/expectation.hpp).
struct RoundPlan {
    std::uint32_t round = 0;  ///< from 1
    std::uint32_t client = 0;
    std::uint32_t counted = 0;  ///< the round whose model its last counted update started from; 0: none
    std::uint32_t base = 0;     ///< the round whose model the parts build on; 0: the first part is whole
    PrecisionPlan plan;
    std::vector<float> uplink_steps;  ///< one a layer: the grid that all clients of the round share
    Probe probe = Probe::none;        ///< the measurements this client is asked for
    Sha256 broadcast{};     ///< of what the client trains from, grid and all: the round's model, then c if there is one
    SharedBytes control{};  ///< with base 0: the control variate that belongs to the model, fp32; empty: 0, or none
    std::vector<ModelPart> parts;
    bool operator==(const RoundPlan&) const = default;
};

/// Node to aggregator: what training this client changed.
struct Update {
    std::uint32_t round = 0;
    std::uint32_t client = 0;
    Sha256 base{};  ///< RoundPlan::broadcast
    TrainingReport report;
    std::vector<std::byte> payload;  ///< trained - received, by the uplink codec
    bool operator==(const Update&) const = default;
};

/// Node to aggregator: this client could not train, and why (a NaN loss, no data).
struct Failed {
    std::uint32_t round = 0;
    std::uint32_t client = 0;
    bool diverged = false;     ///< a loss or a parameter was not finite: the controller must know
    bool needs_model = false;  ///< the node does not hold RoundPlan::base: it could, with a whole model
    std::string reason;
    std::uint32_t base = 0;  ///< of the plan that it answers
    bool operator==(const Failed&) const = default;
};

/// Aggregator to node: the update is counted in this round's sum, and durable once RoundCommitted arrives; or it is
/// refused with a reason.
struct UpdateAck {
    std::uint32_t round = 0;
    std::uint32_t client = 0;
    bool accepted = false;
    std::string reason;  ///< empty when accepted
    bool operator==(const UpdateAck&) const = default;
};

/// Aggregator to each client of the round: the model of this round is decided; the update may be forgotten.
struct RoundCommitted {
    std::uint32_t round = 0;
    std::uint32_t client = 0;
    Sha256 model{};  ///< the aggregator's own after the round: model_sha256 of rounds.jsonl
    bool operator==(const RoundCommitted&) const = default;
};

/// Why a Stop ends a node's part for good; after any other reason it may come back.
inline constexpr std::string_view kRunComplete = "the run is complete";

/// Aggregator to node: it is not needed any more, or not now.
struct Stop {
    std::string reason;
    bool operator==(const Stop&) const = default;
};

/// Either way, where a connection can die unnoticed (transport/tcp.hpp): nothing else was said for a while. Hubs and
/// channels answer for it; nobody above sees one.
struct Heartbeat {
    bool operator==(const Heartbeat&) const = default;
};

using Message = std::variant<Hello, Welcome, RoundPlan, Update, Failed, UpdateAck, RoundCommitted, Stop, Heartbeat>;

std::string_view name_of(const Message& message);

}  // namespace dither
