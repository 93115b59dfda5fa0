// What a run carries from one round to the next: everything that a checkpoint holds, alive.
#pragma once

#include "aggregator/checkpoint.hpp"
#include "aggregator/controller.hpp"
#include "aggregator/detail/model_average.hpp"
#include "aggregator/history.hpp"
#include "aggregator/makers.hpp"
#include "aggregator/norm_bound.hpp"
#include "aggregator/strategy.hpp"
#include "core/config.hpp"
#include "core/model/model.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace dither {

/// Borrows the job and the model, whose parameters are the global model.
struct RunState {
    /// Before the first round: the model is initialized by the job's seed.
    RunState(const Job& job, Model& model, const ServerMakers& makers = {});

    /// Continues from a checkpoint. Throws InputError, naming `file` and what differs, if it is of an earlier version
    /// or another job or holds a state that this one cannot have.
    void restore(Checkpoint checkpoint, const std::filesystem::path& file);
    /// Of all this, which it borrows.
    CheckpointView checkpoint() const;

    /// A later round has shown the model to be sound: it is the one to go back to. Does nothing where nobody judges.
    void model_is_good();
    /// Model, average, strategy and what the links have learnt are again as they were when the model was last good;
    /// returns of which round that is, or nothing where they are so already, or nobody judges.
    std::optional<std::uint32_t> roll_back();

    const Job& job;
    Model& model;
    Controller controller;
    std::unique_ptr<Strategy> strategy;
    RunTotals totals;
    std::uint32_t round = 0;       ///< the last one that ended
    PrecisionPlan evaluated_plan;  ///< that it ran
    std::uint32_t abandoned_in_a_row = 0;
    std::string log_line;           ///< what rounds.jsonl says of it
    ModelAverage average;           ///< of the models since train.swa_start
    std::uint32_t model_round = 0;  ///< that made the model; 0: the initial one
    GoodState good;
    History history;                        ///< the newest changes of the model, as they were broadcast
    PerClient<std::uint32_t> counted;       ///< of each client the round whose model its update that was counted last
                                            ///< started from: that round, unless rounds are asynchronous; 0: none was
    PerClient<std::uint64_t> device_bytes;  ///< that simulated devices have carried, both directions
    std::vector<float> residual;            ///< what the newest change lost when it was encoded; empty: nothing is kept
    NormBound bound;                        ///< of the next round's updates
};

/// The keys in which two resolved jobs (to_toml) differ, "federation.partition, train.epochs", but for those that do
/// not change results: [output], [compute] and, unless the learning rate follows it down a cosine, job.rounds.
std::string differing_keys(std::string_view one, std::string_view other);

}  // namespace dither
