// What a run leaves for people and programs: rounds.jsonl, one object a round, and summary.json. DESIGN's keys; keys
// are added, never renamed.
#pragma once

#include "aggregator/client_scores.hpp"
#include "core/config.hpp"
#include "core/model/evaluate.hpp"
#include "core/model/schema.hpp"
#include "core/precision/ledger.hpp"
#include "core/precision/policy.hpp"
#include "core/sha256.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dither {

/// One committed (or abandoned) round.
struct RoundRecord {
    std::uint32_t round = 0;
    bool committed = true;
    std::optional<double> train_loss;             ///< mean over the participants by weight; absent without any
    std::optional<double> test_loss;              ///< absent in rounds that are not evaluated
    std::optional<double> test_accuracy;          ///< absent for regression, too
    std::optional<RegressionErrors> test_errors;  ///< absent for classification, too
    std::optional<double> swa_loss;      ///< of the averaged model; absent where there is none, and as test_loss
    std::optional<double> swa_accuracy;  ///< likewise
    std::optional<double> grad_norm;     ///< over all layers; absent without any participant
    std::optional<double> update_nmse;   ///< of the participants' whole updates; absent unless the job measures it
    std::uint32_t participants = 0;      ///< updates accepted
    std::uint32_t dropped = 0;           ///< clients that were lost or came too late
    std::uint32_t rejected = 0;          ///< updates refused
    std::uint64_t samples = 0;           ///< processed in training, with repetition over epochs
    std::uint64_t bytes_up = 0;          ///< frames, headers included
    std::uint64_t bytes_down = 0;
    std::uint32_t whole_models = 0;  ///< sent to clients for which no change of a model that they hold would do
    BitOps bit_ops;
    double seconds = 0;
    Sha256 model{};
    PrecisionPlan plan;                   ///< that ran in this round
    std::vector<LayerStatistics> layers;  ///< of all participants
    std::vector<LayerBitOps> work;        ///< of all participants, one a layer; empty: not counted
    std::vector<std::string> reason;      ///< why the round was abandoned, and what else `changes` does not say
    std::vector<PlanChange> changes;      ///< from `plan` to the next round's, each with its reason
    std::uint32_t plans = 0;              ///< different ones that its participants ran: 1 where all nodes are alike
    double train_seconds = 0;             ///< sums over the participants, each by its own clock
    double probe_seconds = 0;             ///< likewise, of their measurements
    double simulated_seconds = 0;         ///< that the round would have taken on the simulated devices
    std::optional<ClientScores> clients;  ///< of the participants; absent unless the round asked them
    std::uint32_t clipped = 0;            ///< updates that counted for less than they weigh: too long
};

/// Totals over a run, and the state that a resumed run starts its totals from.
struct RunTotals {
    std::uint32_t rounds = 0;
    std::uint64_t samples = 0;
    double seconds = 0;
    std::uint64_t bytes_up = 0;
    std::uint64_t bytes_down = 0;
    std::uint64_t coordinates_up = 0;  ///< parameters that crossed, for bits per coordinate
    std::uint64_t coordinates_down = 0;
    BitOps bit_ops;
    std::optional<double> final_accuracy;
    std::optional<double> final_loss;
    std::optional<double> best_accuracy;
    std::optional<RegressionErrors> final_errors;
    std::optional<ClientScores> clients;  ///< of the last round that asked for them
    std::optional<double> swa_accuracy;   ///< of the averaged model, its last evaluation
    std::optional<double> swa_loss;
    double train_seconds = 0;
    double probe_seconds = 0;
    std::uint64_t plan_changes = 0;  ///< of one layer's width in one phase
    std::uint64_t whole_models = 0;
    double simulated_seconds = 0;  ///< at which the last round ended: the clock's, not a sum

    void add(const RoundRecord& record, std::uint64_t coordinates_up, std::uint64_t coordinates_down);
    /// fp32 bytes of the same coordinates over the bytes that crossed; 0 before anything did.
    double compression() const;
    bool operator==(const RunTotals&) const = default;
};

/// Where a run took place.
struct RunPlace {
    int ranks = 1;
    std::string backend;
    std::string cpu;
};

/// One line of rounds.jsonl, without the newline.
std::string to_json_line(const RoundRecord& record, const Schema& schema);
/// "conv1 forward 8 -> 4: why": a change of the plan as a sentence.
std::string describe(const PlanChange& change, const Schema& schema);
/// summary.json, newline included. `device_bytes`: of each simulated device that took part.
std::string to_summary_json(const Job& job, const RunTotals& totals, const Sha256& model, const RunPlace& place,
                            std::span<const std::uint64_t> device_bytes = {});

}  // namespace dither
