// The global precision controller: combines what the nodes reported, lets the policy decide the local phases, and
// chooses the grids of the uplink and the downlink.
#pragma once

#include "core/config.hpp"
#include "core/precision/policy.hpp"
#include "transport/codec.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dither {

/// One client's report, with the weight of its update.
struct WeightedReport {
    std::uint32_t client = 0;
    std::uint64_t weight = 0;
    TrainingReport report;
    Probe probe = Probe::none;  ///< that it was asked for
};

/// The federation's statistics: weighted means of those that were measured (root mean squares for norms and errors;
/// the maximum for update_range), summed in ascending order of clients, so that no order of arrival shows.
/// The reports are sorted in place. `layers` entries.
std::vector<LayerStatistics> combine(std::vector<WeightedReport>& reports, std::size_t layers);

/// Deterministic; not thread-safe. Borrows the schema.
class Controller {
public:
    Controller(const Job& job, const Schema& schema);

    /// The plan of the next round, its uplink and downlink bits included.
    const PrecisionPlan& plan() const { return plan_; }
    /// The grid of the next round's updates, one step a layer. With bits = b: 2 * range / (2^b - 2) of the last round's
    /// largest |update|. With bits = "auto": half of the last round's RMS update, so that the rounding noise stays
    /// small against the clients' own disagreement. Before the first report: updates are taken for 5% of the layer's
    /// RMS weight. A layer without products (a norm) has few values, of scales that differ: the grid of 16 bits in any
    /// case. All ones for a codec without a grid.
    std::span<const float> uplink_steps() const { return uplink_steps_; }
    /// The grid that broadcasts `model`: symmetric, covering the layer's largest |weight|, with plan().downlink bits.
    std::vector<float> downlink_steps(std::span<const float> model) const;
    /// Why `model` cannot be broadcast: it is not finite or beyond every grid. Empty if it can.
    std::string problem_of(std::span<const float> model) const;
    /// What each of the `asked` clients of round `round` is to measure, in their order. A measurement is due in round 1
    /// and every curvature_every rounds, and stays due until a round brings it; those who make it are drawn by the
    /// seed.
    std::vector<Probe> probes(std::uint32_t round, std::size_t asked) const;

    /// Sets up the first round from the initial model.
    void start(std::span<const float> model);
    /// Learns from a committed round and decides the next plan; returns what changed and why.
    std::vector<PlanChange> learn(std::uint32_t round, double train_loss, std::span<const LayerStatistics> statistics);
    /// Round `round` diverged: every layer's local phases rise by one level at once, and no policy takes them below
    /// that before kAlarmRounds more rounds have committed.
    std::vector<PlanChange> alarm(std::uint32_t round, const std::string& reason);
    static constexpr std::uint32_t kAlarmRounds = 5;

    /// What a resumed run needs; restore(state()) is the identity. Throws PreconditionError on what is no state.
    std::vector<double> state() const;
    void restore(std::span<const double> state);

private:
    /// The least bits of one layer's local phases, 0 for none.
    using Floor = std::array<int, 3>;

    /// The bits that the job fixes for one layer's local phases, whatever the policy says.
    struct Fixed {
        int weights = 0;  ///< 0: the plan's
        int activations = 0;
        int gradients = 0;
        int optimizer = 0;

        int bits(Phase phase, int planned) const;
    };

    /// Puts what the job fixes into the plan, wherever it is below 32 bits, and drops what it undoes from `changes`.
    void fix(std::vector<PlanChange>& changes);
    /// Raises what the policy decided to the floors, or forgets them if they have held long enough.
    void hold(std::vector<PlanChange>& changes);
    bool measurement_is_due(std::uint32_t round) const;
    /// Sets the uplink of one layer from how far updates reach and how large they are; keeps the last step if that
    /// gives none (nothing was measured, or the layer did not move).
    void choose_uplink(std::size_t layer, double range, double rms);
    bool is_wide(std::size_t layer) const;
    int downlink_bits(std::size_t layer) const;

    const Schema& schema_;
    PrecisionOptions options_;
    CodecPair codec_;
    bool uplink_grid_ = false;    ///< the codec needs steps
    bool downlink_grid_ = false;  ///< likewise
    Levels levels_;
    std::unique_ptr<Policy> policy_;
    PrecisionPlan plan_;
    std::vector<float> uplink_steps_;
    std::vector<Floor> floors_;
    std::vector<Fixed> fixed_;
    std::uint32_t alarm_round_ = 0;  ///< of the last alarm
    std::uint32_t calm_rounds_ = 0;  ///< committed since
    std::uint32_t measured_in_ = 0;  ///< the last round that brought a curvature; 0 = none
    std::uint32_t seed_;
};

}  // namespace dither
