// A policy decides the bits of the three local phases (forward, backward, optimizer) of the next round from what the
// last one showed, and some of the uplink's (rules_uplink). Uplink and downlink are the controller's else, which knows
// the codec.
//
// To add a policy: one file in core/precision/policies/, its declaration in core/precision/detail/policies.hpp, its row
// in the table of policy.cpp and its line in CMake.
#pragma once

#include "core/choice.hpp"
#include "core/model/schema.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/statistics.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dither {

struct PrecisionOptions;

/// A change of the plan and why. `reason` names the bound and its numbers: "h*|theta|/|s| = 0.31 -> 6 bits (+4
/// margin)".
struct PlanChange {
    std::size_t layer = 0;
    Phase phase = Phase::forward;
    int from = kFullBits;
    int to = kFullBits;
    std::string reason;

    bool operator==(const PlanChange&) const = default;
};

/// The federation's last round, already combined over the clients that took part.
struct Observation {
    std::uint32_t round = 0;  ///< the round that has just ended, from 1
    double train_loss = 0;
    double rate = 1;  ///< the learning rate of the round to come, as a share of its peak
    std::span<const LayerStatistics> layers;
};

/// Which measurements cost extra work on a node; the controller asks for them only when they are due. A set of flags.
enum class Probe : std::uint8_t {
    none = 0,
    curvature = 1,       ///< curvature and curvature_trace
    curvature_norm = 2,  ///< curvature_norm and lipschitz
    sensitivity = 4,     ///< forward_sensitivity and backward_sensitivity
    held_out = 8,        ///< the client's held-out samples: TrainingReport::held_out
};
inline constexpr Probe operator|(Probe a, Probe b) {
    return static_cast<Probe>(static_cast<std::uint8_t>(a) | static_cast<std::uint8_t>(b));
}
/// Whether `asked` has all flags of `what`.
inline constexpr bool asks(Probe asked, Probe what) {
    return (static_cast<std::uint8_t>(asked) & static_cast<std::uint8_t>(what)) == static_cast<std::uint8_t>(what);
}
inline constexpr std::uint8_t kAllProbes = 15;

/// Deterministic; not thread-safe. Owned by the controller.
class Policy {
public:
    virtual ~Policy() = default;

    virtual PrecisionPlan initial() const = 0;
    /// Changes `plan` in place for the next round and says what it changed and why; empty if nothing.
    virtual std::vector<PlanChange> update(const Observation& observation, PrecisionPlan& plan) = 0;
    /// The measurement that this policy needs now and then.
    virtual Probe probe() const { return Probe::none; }
    /// Whether the policy's plans also say the uplink's bits, 2..16, be they levels or not; else they are the
    /// controller's.
    virtual bool rules_uplink() const { return false; }
    /// Everything that a resumed run needs to decide as the interrupted one would have; restore(state()) is the
    /// identity.
    virtual std::vector<double> state() const { return {}; }
    virtual void restore(std::span<const double> state);
};

/// Throws InputError on an unknown policy or on bits outside the levels.
std::unique_ptr<Policy> make_policy(const PrecisionOptions& options, const Schema& schema);
std::vector<Choice> policy_choices();

}  // namespace dither
