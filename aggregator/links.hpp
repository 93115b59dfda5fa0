// The grids of the uplink and the downlink.
//
// The uplink's is made from the updates that the last round showed, that of a broadcast delta from the delta itself
// (aggregator/update_grid.hpp): by the codec's rate or, where precision.uplink_noise is given, by noise. Then the
// uplink's rounding adds precision.uplink_noise times the clients' own disagreement to the variance of a round's mean,
// and the delta's rounding as much again.
//
// A downlink that carries whole models: with "auto" bits one step for all layers, that whose noise is the mean noise of
// 8 bits in every layer, within 6 .. 16 bits of each layer's range. A layer without products (a norm) has few values,
// of scales that differ: the grid of 16 bits in any case.
#pragma once

#include "aggregator/update_grid.hpp"
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

/// Of updates, as a round showed them; what the next grids are made from.
struct UpdateEvidence {
    std::span<const LayerStatistics> layers;
    std::span<const double> mean_rms;  ///< tensor_rms of the mean update; empty: not known
    std::uint32_t clients = 0;         ///< whose mean it is
    double update_bytes = 0;           ///< an update's payload, on average; 0: not known
};

/// Deterministic; not thread-safe. Borrows the schema.
class Links {
public:
    Links(const Job& job, const Schema& schema, bool policy_rules_uplink, const Makers& makers = {});

    /// One step a layer, all ones for a codec without a grid.
    std::span<const float> uplink_steps() const { return uplink_.steps(); }
    std::span<const float> downlink_steps() const { return downlink_steps_; }  ///< of whole models
    std::span<const float> delta_steps() const { return delta_.steps(); }
    /// Why `model` cannot be broadcast: it is not finite or beyond every grid. Empty if it can.
    std::string problem_of(std::span<const float> model) const;

    /// Before any report: updates are taken for 5% of the layer's RMS weight, reaching 8 times as far.
    void start(std::span<const float> model, const PrecisionPlan& plan);
    /// Chooses the uplink's steps: with the plan's uplink bits, where the policy rules them.
    void learn(const UpdateEvidence& evidence, const PrecisionPlan& plan);
    /// The grids of the next round, which broadcasts `model`: all steps but those of layers without products times
    /// `coarseness`, at least 1, up to that of 2 bits. Sets the links' widths in the plan. Where deltas are broadcast,
    /// theirs stays as it is.
    void choose(std::span<const float> model, double coarseness, PrecisionPlan& plan);
    /// Whether a larger coarseness would still make any step larger.
    bool can_be_coarser() const { return can_be_coarser_; }
    /// The grid of a broadcast that changes the model by `delta`, likewise.
    void choose_delta(std::span<const float> delta, double coarseness, PrecisionPlan& plan);
    /// What that delta took, coded.
    void learn_delta(double payload_bytes);
    /// Bytes of an update's payload on the chosen grids, as the last round's bytes and spread have it; before the first
    /// round, what codes of the nominal width take.
    double expected_update_bytes() const { return uplink_.expected_bytes(); }

    /// What changed against `before`, and the numbers behind it.
    std::vector<PlanChange> changes(const PrecisionPlan& before, const PrecisionPlan& plan) const;

    /// restore reads what append_state wrote, and throws PreconditionError on what is no state.
    void append_state(std::vector<double>& state) const;
    void restore(StateReader& reader);

private:
    bool is_wide(std::size_t layer) const { return schema_.layers()[layer].macs == 0; }
    int downlink_bits(std::size_t layer) const;
    /// What the policy gives the uplink; empty where it does not rule it.
    std::vector<int> ruled_bits(const PrecisionPlan& plan) const;
    void choose_downlink(std::span<const float> model, double coarseness, PrecisionPlan& plan);
    float coarsened(std::size_t layer, double step, double range, double coarseness);

    const Schema& schema_;
    CodecPair codec_;
    double noise_share_;
    bool policy_rules_uplink_;
    bool sends_deltas_;
    bool downlink_grid_;  ///< the codec needs steps
    UpdateGrid uplink_;
    UpdateGrid delta_;
    bool averages_;          ///< what stands for the updates is their mean
    std::uint32_t clients_;  ///< whose updates make a mean
    std::vector<float> downlink_steps_;
    std::vector<double> downlink_ranges_;
    bool can_be_coarser_ = true;
};

}  // namespace dither
