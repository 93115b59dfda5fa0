// The folder of one run: its lock, its files and its log.
#pragma once

#include "aggregator/checkpoint.hpp"
#include "core/storage.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

namespace dither {

/// The output folder of one run, locked against a second process for the object's life. Not thread-safe.
class RunFolder {
public:
    static constexpr const char* kCheckpoint = "model.dither";
    static constexpr const char* kLog = "rounds.jsonl";
    static constexpr const char* kSummary = "summary.json";
    static constexpr const char* kJob = "job.resolved.toml";

    /// Fresh run: the folder may exist but holds no run. Resume: it holds a checkpoint. Throws InputError that says
    /// which is not so, or who uses it. Creates nothing unless all is well.
    RunFolder(const std::filesystem::path& folder, bool resume);
    /// Likewise of files that nobody else can use: a simulated disk. There is no lock.
    RunFolder(std::unique_ptr<Storage> storage, bool resume);
    RunFolder(const RunFolder&) = delete;
    RunFolder& operator=(const RunFolder&) = delete;
    ~RunFolder();

    /// Whether there is a checkpoint that a run could resume from.
    static bool holds_run(const std::filesystem::path& folder);

    const std::filesystem::path& path() const { return path_; }  ///< empty where there is none
    std::filesystem::path checkpoint_file() const { return path_ / kCheckpoint; }
    Storage& storage() { return *storage_; }

    /// Durable when it returns, whole or not at all. Throws IoError.
    void save(const CheckpointView& checkpoint);
    /// Throws InputError as load_checkpoint does.
    Checkpoint load() const;

    /// Drops what rounds.jsonl says of rounds after `round` (they were not kept) and continues behind it. Returns the
    /// last round that the log then holds, 0 if none.
    std::uint32_t open_log(std::uint32_t round);
    /// Appends a line to rounds.jsonl and syncs it. Throws IoError.
    void append_round(std::string_view line);

private:
    /// Throws InputError if the folder does not hold what the constructor promises.
    void check_contents(bool resume) const;
    /// Takes the lock, waiting for nobody. Creates its file only if `create`; false if there is none.
    bool take_lock(bool create);

    std::filesystem::path path_;
    std::unique_ptr<Storage> storage_;
    FileDescriptor lock_;
    std::unique_ptr<AppendFile> log_;
};

}  // namespace dither
