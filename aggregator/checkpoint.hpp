// A run's state on disk, `model.dither`: written whole or not at all, and refused unless it is whole. README.md has the
// bytes.
#pragma once

#include "aggregator/detail/file_descriptor.hpp"
#include "aggregator/record.hpp"
#include "core/model/schema.hpp"
#include "core/sha256.hpp"

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dither {

struct Checkpoint {
    std::string job;          ///< resolved TOML: what dither-evaluate rebuilds the model from
    Sha256 job_identity{};    ///< identity(job)
    std::uint32_t round = 0;  ///< the last round that ended; 0 = none, the initial model
    Schema schema;
    std::vector<float> model;
    PrecisionPlan plan;              ///< that the next round (or an evaluation) uses
    std::vector<double> controller;  ///< Controller::state
    std::vector<float> strategy;     ///< Strategy::state
    RunTotals totals;
    std::string log_line;  ///< of `round` in rounds.jsonl, which is written after the checkpoint; empty in round 0

    bool operator==(const Checkpoint&) const = default;
};

/// Durable when it returns: temporary file, fsync, rename, fsync of the folder. Throws IoError.
void save_checkpoint(const std::filesystem::path& file, const Checkpoint& checkpoint);
/// Throws InputError that names the file when it is missing, truncated, altered or of another version.
Checkpoint load_checkpoint(const std::filesystem::path& file);

/// Replaces `file` by `text` with the same durable sequence; leaves no temporary file behind when it throws.
void write_durably(const std::filesystem::path& file, std::string_view text);

/// The output folder of one run, locked against a second process for the object's life.
class RunFolder {
public:
    /// Fresh run: the folder may exist but holds no run. Resume: it holds a checkpoint. Throws InputError that says
    /// which is not so, or who uses it. Creates nothing unless all is well.
    RunFolder(const std::filesystem::path& folder, bool resume);
    RunFolder(const RunFolder&) = delete;
    RunFolder& operator=(const RunFolder&) = delete;

    const std::filesystem::path& path() const { return path_; }
    std::filesystem::path checkpoint_file() const { return path_ / "model.dither"; }

    /// Drops what rounds.jsonl says of rounds after `round` (they were not kept) and continues behind it. Returns the
    /// last round that the log then holds, 0 if none.
    std::uint32_t open_log(std::uint32_t round);
    /// Appends a line to rounds.jsonl and syncs it. Throws IoError.
    void append_round(std::string_view line);

private:
    std::filesystem::path log_file() const { return path_ / "rounds.jsonl"; }
    /// Throws InputError if the folder does not hold what the constructor promises.
    void check_contents(bool resume) const;
    /// Takes the lock, waiting for nobody. Creates its file only if `create`; false if there is none.
    bool take_lock(bool create);

    std::filesystem::path path_;
    FileDescriptor lock_;
    FileDescriptor log_;
};

}  // namespace dither
