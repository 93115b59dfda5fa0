// The folder of one run: its lock and its log.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

namespace dither {

class FileDescriptor;

/// The output folder of one run, locked against a second process for the object's life.
class RunFolder {
public:
    /// Fresh run: the folder may exist but holds no run. Resume: it holds a checkpoint. Throws InputError that says
    /// which is not so, or who uses it. Creates nothing unless all is well.
    RunFolder(const std::filesystem::path& folder, bool resume);
    RunFolder(const RunFolder&) = delete;
    RunFolder& operator=(const RunFolder&) = delete;
    ~RunFolder();

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
    std::unique_ptr<FileDescriptor> lock_;
    std::unique_ptr<FileDescriptor> log_;
};

}  // namespace dither
