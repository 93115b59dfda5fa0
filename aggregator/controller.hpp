// The global precision controller: lets the policy decide the local phases from what the nodes reported, keeps the
// plan within what the job fixes and can afford, raises bits where training went wrong, and chooses the grids of the
// uplink and the downlink.
#pragma once

#include "aggregator/fixed_bits.hpp"
#include "aggregator/floors.hpp"
#include "aggregator/guard.hpp"
#include "aggregator/links.hpp"
#include "aggregator/makers.hpp"
#include "core/config.hpp"
#include "core/precision/error_model.hpp"
#include "core/precision/policy.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dither {

/// What a committed round showed, combined over its clients.
struct RoundEvidence {
    std::uint32_t round = 0;
    double train_loss = 0;
    std::span<const LayerStatistics> layers;
    std::span<const double> mean_rms;  ///< tensor_rms of the mean update; empty: not known
    std::uint32_t clients = 0;         ///< whose mean it is
    double update_bytes = 0;           ///< of an update's payload, on average; 0: not known
};

/// Deterministic; not thread-safe. Borrows the schema.
class Controller {
public:
    Controller(const Job& job, const Schema& schema, const ServerMakers& makers = {});

    /// The plan of the next round; its uplink and downlink bits are those of the grids that were chosen last.
    const PrecisionPlan& plan() const { return plan_; }
    /// The grids of the next round: aggregator/links.hpp.
    const Links& links() const { return links_; }
    std::span<const float> uplink_steps() const { return links_.uplink_steps(); }
    std::span<const float> downlink_steps() const { return links_.downlink_steps(); }
    /// Why `model` cannot be broadcast: it is not finite or beyond every grid. Empty if it can.
    std::string problem_of(std::span<const float> model) const { return links_.problem_of(model); }
    /// What each of the `asked` clients of round `round` is to measure, in their order. A measurement is due in round 1
    /// and every curvature_every rounds, and stays due until a round brings it; those who make it are drawn by the
    /// seed.
    std::vector<Probe> probes(std::uint32_t round, std::size_t asked) const;

    /// Sets up the first round from the initial model.
    void start(std::span<const float> model);
    /// Why a round of this training loss must not be committed; empty if it may: aggregator/guard.hpp.
    std::string judge(double train_loss) { return guard_.judge(train_loss); }
    bool judges() const { return guard_.is_on(); }
    /// Learns from a committed round and decides the next plan's local phases: the policy's bits, or what the job fixes
    /// instead; lowered until their mean is within bit_budget; raised to the floors of alarms and saturation, whatever
    /// they cost. Returns what changed against the plan that ran, and why.
    std::vector<PlanChange> learn(const RoundEvidence& evidence);
    /// The grids of the next round, which broadcasts `model`, `coarseness` times as coarse as nothing but noise asks
    /// for (Links::choose). May be called again with another coarseness.
    void choose_grids(std::span<const float> model, double coarseness = 1);
    /// The grid of a broadcast that changes the model by `delta`, `coarseness` times as coarse as nothing but noise
    /// asks for; then what the delta took on it.
    void choose_delta(std::span<const float> delta, double coarseness = 1);
    std::span<const float> delta_steps() const { return links_.delta_steps(); }
    void learn_delta(double payload_bytes) { links_.learn_delta(payload_bytes); }
    /// Which of the links' widths differ from those of `before`, and why; the policy's reasons, too, where it rules
    /// them.
    std::vector<PlanChange> link_changes(const PrecisionPlan& before) const;
    /// Round `round` diverged: every layer's local phases rise by one level at once, and no policy takes them below
    /// that before Floors::kHeldRounds more rounds have committed.
    std::vector<PlanChange> alarm(std::uint32_t round, const std::string& reason);

    /// What the links have learnt, and back to it: with a model that the run goes back to. What a later round taught is
    /// forgotten.
    std::vector<double> links_state() const;
    void restore_links(std::span<const double> state);

    /// What a resumed run needs, once it has chosen the grids for its model again; restore(state()) is the identity.
    /// Throws PreconditionError on what is no state.
    std::vector<double> state() const;
    void restore(std::span<const double> state);

private:
    double rate_after(std::uint32_t round) const;
    Probe wanted_probe() const;
    bool measurement_is_due(std::uint32_t round) const;
    /// The policy's turn, with the uplink's bits that it gave last, whatever became of them on the way to the wire. One
    /// that does not rule the uplink leaves the links as they were. The changes are of local phases; why the uplink's
    /// bits changed is kept for link_changes.
    std::vector<PlanChange> ask_policy(const RoundEvidence& evidence);
    void keep_bit_budget(double rate, std::vector<PlanChange>& changes);

    const Schema& schema_;
    PrecisionOptions options_;
    ScheduleOptions schedule_;
    std::uint32_t rounds_;  ///< of the run
    Levels levels_;
    std::unique_ptr<Policy> policy_;
    bool policy_rules_uplink_ = false;
    FixedBits fixed_;
    Floors floors_;
    Guard guard_;
    Links links_;
    PrecisionPlan plan_;
    std::vector<int> ruled_uplink_;                ///< the policy's bits, where it rules them
    std::vector<std::string> uplink_reasons_;      ///< why the last round changed them; empty where it did not
    std::vector<LayerSensitivity> sensitivities_;  ///< smoothed: what the bit budget is spent by
    std::uint32_t measured_in_ = 0;                ///< the last round that brought a measurement; 0 = none
    std::uint32_t seed_;
};

}  // namespace dither
