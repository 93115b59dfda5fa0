// A run's state on disk, `model.dither`: written whole or not at all, and refused unless it is whole. README.md has the
// bytes.
#pragma once

#include "aggregator/history.hpp"
#include "aggregator/per_client.hpp"
#include "aggregator/record.hpp"
#include "core/model/schema.hpp"
#include "core/sha256.hpp"
#include "core/storage.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dither {

/// What files have that are written. Earlier ones are read for evaluation only: their jobs lack keys.
inline constexpr std::uint32_t kCheckpointVersion = 6;

/// The last model that a later round has shown to be sound, and the rest of the state then.
struct GoodState {
    std::uint32_t round = 0;   ///< that made it; 0: the initial one
    std::vector<float> model;  ///< empty where nobody judges
    std::vector<float> strategy;
    std::vector<double> links;  ///< Controller::links_state
    std::vector<float> averaged;
    std::uint32_t averaged_rounds = 0;

    bool operator==(const GoodState&) const = default;
};

/// How a checkpoint holds what is as large as a model: in memory of its own, or as a view of a run that goes on.
struct Owned {
    using Floats = std::vector<float>;
    template <typename Type>
    using Large = Type;
};
struct Viewed {
    using Floats = std::span<const float>;
    template <typename Type>
    using Large = const Type&;
};

template <typename Holding>
struct CheckpointOf {
    using Floats = typename Holding::Floats;
    template <typename Type>
    using Large = typename Holding::template Large<Type>;

    std::uint32_t version = kCheckpointVersion;  ///< of the file that it was read from
    std::string job;                             ///< resolved TOML: what dither-evaluate rebuilds the model from
    Sha256 job_identity{};                       ///< identity(job)
    std::uint32_t round = 0;                     ///< the last round that ended; 0 = none, the initial model
    Schema schema;
    Floats model;
    PrecisionPlan plan;              ///< of the next round
    PrecisionPlan evaluated_plan;    ///< that `round` ran and was evaluated with: what dither-evaluate uses
    std::vector<double> controller;  ///< Controller::state
    Floats strategy;                 ///< Strategy::state
    RunTotals totals;
    std::uint32_t abandoned_in_a_row = 0;  ///< rounds up to `round` that could not commit
    std::string log_line;  ///< of `round` in rounds.jsonl, which is written after the checkpoint; empty in round 0
    Floats averaged;       ///< the mean of the models since train.swa_start; empty where there is none
    std::uint32_t averaged_rounds = 0;  ///< how many models that is
    std::uint32_t model_round = 0;      ///< that made `model`; 0: the initial one; before version 4: `round`
    Large<GoodState> good;
    Large<History> history;  ///< what brings clients to the model of round `round` + 1
    Large<PerClient<std::uint32_t>>
        counted;  ///< of each client the round whose model its last counted update started from; before version 6: none
    Floats residual;          ///< of the newest change (server-side error feedback); empty: none is kept
    double typical_norm = 0;  ///< NormBound::typical
    Large<PerClient<std::uint64_t>> device_bytes;  ///< that simulated devices have carried, both directions

    bool operator==(const CheckpointOf&) const = default;
};
using Checkpoint = CheckpointOf<Owned>;
/// Borrows the large parts.
using CheckpointView = CheckpointOf<Viewed>;

/// Gives the bytes of a checkpoint file to `sink`, in pieces. Takes no memory that grows with the model. Throws
/// FormatError if it is no state of a run.
void write_checkpoint(const Checkpoint& checkpoint, const ByteSink& sink);
void write_checkpoint(const CheckpointView& checkpoint, const ByteSink& sink);
/// Durable when it returns: temporary file, fsync, rename, fsync of the folder. Throws IoError, and FormatError
/// likewise.
void save_checkpoint(const std::filesystem::path& file, const Checkpoint& checkpoint);

/// Up to `size` bytes of a file from `offset` on, fewer only at its end.
using PartReader = std::function<std::string(std::uint64_t offset, std::size_t size)>;

/// Throws InputError that names the file when it is missing, truncated, altered, of another version or otherwise no
/// state of a run. Takes no memory that grows with the model but what it returns: the file is read twice, part by part.
Checkpoint load_checkpoint(const std::filesystem::path& file);
/// Likewise of a file that `name` names.
Checkpoint read_checkpoint(const PartReader& read, const std::string& name);
Checkpoint read_checkpoint(std::string_view bytes, const std::string& name);

}  // namespace dither
