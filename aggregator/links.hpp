// The grids of the uplink and the downlink: how coarse the values that cross the wire may be.
//
// "auto" uplink: reverse water-filling over the layers. The mean of K updates has, from the clients' own disagreement,
// the variance D_i / K a coordinate in layer i, where D_i (K - 1) / K = E||u_k||^2 / n_i - ||mean u||^2 / n_i;
// stochastic rounding onto a grid of step Delta adds Delta^2 / (6 K). One noise level theta for all layers makes the
// total noise precision.uplink_noise times the total disagreement: the fewest bits for that noise (Cover and Thomas,
// "Elements of information theory", theorem 10.3.3). A step is never more than kLargestStepShare times the layer's RMS
// update, so that no layer stands still: less noise than the update's own variance, where the theorem stops.
//
// "auto" downlink: likewise one step for all layers, that whose noise is the mean noise of 8 bits in every layer,
// within 6 .. 16 bits of each layer's range.
//
// A layer without products (a norm) has few values, of scales that differ: the grid of 16 bits in any case.
#pragma once

#include "core/config.hpp"
#include "core/model/schema.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/policy.hpp"
#include "core/precision/statistics.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dither {

class StateReader;

/// A step is at most so many times the layer's RMS update.
inline constexpr double kLargestStepShare = 1;

/// What a round showed of one layer's updates.
struct UpdateSpread {
    double range = -1;         ///< largest |update|; negative: not known
    double rms = -1;           ///< root mean square of a client's update
    double disagreement = -1;  ///< variance of a coordinate between clients, >= 0; not known: as rms^2
};

/// The steps of reverse water-filling, one a layer; 0 where nothing is known of the layer. `counts`: coordinates; a
/// layer of 0 takes no part.
std::vector<double> water_filling_steps(std::span<const UpdateSpread> layers, std::span<const std::size_t> counts,
                                        double noise_share);

/// K / (K - 1) (E||u_k||^2 / n - ||mean u||^2 / n) of a layer, from a client's RMS update and that of the mean of
/// `clients` = K updates, which lacks only (K - 1) / K of the clients' variance: at least a hundredth of rms^2, for
/// clients that agree; -1, not known, for less than two clients.
double disagreement_of(double rms, double mean_rms, std::uint32_t clients);

/// Bits that a stochastically rounded coordinate of bell-shaped values takes when coded well: log2(1 + 4.13 rms /
/// step), within a tenth of its entropy for a normal distribution.
double coded_bits(double rms, double step);

/// Of updates, as a round showed them; what the next grids are made from.
struct UpdateEvidence {
    std::span<const LayerStatistics> layers;
    std::span<const double> mean_rms;  ///< RMS of the mean update, one a layer; empty: not known
    std::uint32_t clients = 0;         ///< whose mean it is
    double update_bytes = 0;           ///< an update's payload, on average; 0: not known
};

/// Deterministic; not thread-safe. Borrows the schema.
class Links {
public:
    Links(const Job& job, const Schema& schema, bool policy_rules_uplink);

    /// One step a layer, all ones for a codec without a grid.
    std::span<const float> uplink_steps() const { return uplink_steps_; }
    std::span<const float> downlink_steps() const { return downlink_steps_; }
    /// Why `model` cannot be broadcast: it is not finite or beyond every grid. Empty if it can.
    std::string problem_of(std::span<const float> model) const;

    /// Before any report: updates are taken for 5% of the layer's RMS weight, reaching 8 times as far.
    void start(std::span<const float> model, const PrecisionPlan& plan);
    /// Chooses the uplink's steps. With bits = b: 2 range / (2^b - 2); so with the plan's uplink bits, where the policy
    /// rules them. A layer that did not move, or of which nothing was measured, keeps its step.
    void learn(const UpdateEvidence& evidence, const PrecisionPlan& plan);
    /// The grids of the next round, which broadcasts `model`: all steps but those of layers without products times
    /// `coarseness`, at least 1, up to that of 2 bits. Sets the links' widths in the plan.
    void choose(std::span<const float> model, double coarseness, PrecisionPlan& plan);
    /// Whether a larger coarseness would still make any step larger.
    bool can_be_coarser() const { return can_be_coarser_; }
    /// Bytes of an update's payload on the chosen grids, as the last round's bytes and spread have it; before the first
    /// round, what codes of the nominal width take.
    double expected_update_bytes() const;

    /// What changed against `before`, and the numbers behind it.
    std::vector<PlanChange> changes(const PrecisionPlan& before, const PrecisionPlan& plan) const;

    /// restore reads what append_state wrote, and throws PreconditionError on what is no state.
    void append_state(std::vector<double>& state) const;
    void restore(StateReader& reader);

private:
    bool is_wide(std::size_t layer) const { return schema_.layers()[layer].macs == 0; }
    int uplink_bits(std::size_t layer, const PrecisionPlan& plan) const;
    int downlink_bits(std::size_t layer) const;
    void set_uplink_bases(const PrecisionPlan& plan);
    void choose_uplink(double coarseness, PrecisionPlan& plan);
    void choose_downlink(std::span<const float> model, double coarseness, PrecisionPlan& plan);
    float coarsened(std::size_t layer, double step, double range, double coarseness);
    double modelled_bits() const;

    const Schema& schema_;
    CodecPair codec_;
    double noise_share_;
    bool policy_rules_uplink_;
    bool uplink_grid_;    ///< the codec needs steps
    bool downlink_grid_;  ///< likewise
    std::vector<UpdateSpread> spread_;
    std::vector<float> uplink_bases_;  ///< before they are made coarser
    std::vector<float> uplink_steps_;
    std::vector<float> downlink_steps_;
    std::vector<double> downlink_ranges_;
    double measured_bits_ = 0;  ///< of an update's payload in the last round; 0: not known
    double modelled_then_ = 0;  ///< what modelled_bits() was on its grids
    bool can_be_coarser_ = true;
};

}  // namespace dither
