#include "aggregator/run_folder.hpp"

#include "aggregator/journal.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <sstream>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <nlohmann/json.hpp>

namespace dither {

namespace fs = std::filesystem;

namespace {

/// The round of a line of rounds.jsonl; nothing for a line that was torn in writing.
std::optional<std::uint32_t> round_of(const std::string& line) {
    const auto object = nlohmann::json::parse(line, nullptr, false);
    if (!object.is_object() || !object.contains("round") || !object["round"].is_number_unsigned())
        return std::nullopt;
    return object["round"].get<std::uint32_t>();
}

bool is_there(const fs::path& path) {
    std::error_code ignored;
    return fs::exists(path, ignored);
}

}  // namespace

RunFolder::RunFolder(const fs::path& folder, bool resume) : path_(folder), storage_(make_folder_storage(folder)) {
    if (is_there(path_) && !fs::is_directory(path_))
        throw InputError(fmt::format("{} is a file, expected a folder for the run", path_.string()));
    const bool locked = take_lock(false);
    check_contents(resume);
    if (locked)
        return;
    try {
        create_folders(path_);
    } catch (const IoError& error) {
        throw InputError(error.what());
    }
    take_lock(true);
    check_contents(resume);  // again, now that nobody else can start a run here
}

RunFolder::RunFolder(std::unique_ptr<Storage> storage, bool resume) : storage_(std::move(storage)) {
    check_contents(resume);
}

RunFolder::~RunFolder() = default;

bool RunFolder::holds_run(const fs::path& folder) {
    return is_there(folder / kCheckpoint);
}

void RunFolder::check_contents(bool resume) const {
    const auto is_here = [&](const char* name) { return storage_->exists(name); };
    if (resume && !is_here(kCheckpoint))
        throw InputError(fmt::format("{} holds no checkpoint to resume from", path_.string()));
    if (!resume && std::ranges::any_of(std::array{kCheckpoint, kLog, kSummary, Journal::kFile}, is_here))
        throw InputError(fmt::format("{} already holds a run; use --resume or another folder", path_.string()));
}

bool RunFolder::take_lock(bool create) {
    const fs::path file = path_ / ".lock";
    lock_ = FileDescriptor::open(file, create ? O_RDWR | O_CREAT : O_RDWR);
    if (!lock_.valid() && !create && (errno == ENOENT || errno == ENOTDIR))
        return false;
    if (!lock_.valid())
        throw InputError(fmt::format("{}: cannot open the lock: {}", file.string(), std::strerror(errno)));
    if (::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno == EWOULDBLOCK)
        throw InputError(fmt::format("{} is in use by another process", path_.string()));
    throw InputError(fmt::format("{}: cannot lock: {}", file.string(), std::strerror(errno)));
}

void RunFolder::save(const CheckpointView& checkpoint) {
    storage_->replace(kCheckpoint, [&](const ByteSink& sink) { write_checkpoint(checkpoint, sink); });
}

Checkpoint RunFolder::load() const {
    const auto read = [this](std::uint64_t offset, std::size_t size) {
        return storage_->read_part(kCheckpoint, offset, size);
    };
    return read_checkpoint(read, checkpoint_file().string());
}

std::uint32_t RunFolder::open_log(std::uint32_t round) {
    std::uint32_t last = 0;
    std::string kept;
    const std::string found = storage_->read(kLog).value_or("");
    std::istringstream in(found);
    for (std::string line; std::getline(in, line);) {
        const auto number = round_of(line);
        if (!number || *number > round)
            continue;
        kept += line + '\n';
        last = std::max(last, *number);
    }
    if (kept.size() != found.size())
        storage_->replace(kLog, kept);
    log_ = storage_->open_append(kLog);
    if (log_->size() > 0)
        log_->sync();  // the last process may have died before it did
    return last;
}

void RunFolder::append_round(std::string_view line) {
    require(log_ != nullptr, "append_round before open_log");
    log_->append(std::string(line) + '\n');
    log_->sync();
}

}  // namespace dither
