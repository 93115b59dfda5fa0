#include "aggregator/run_folder.hpp"

#include "core/durable_file.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
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

RunFolder::RunFolder(const fs::path& folder, bool resume)
    : path_(folder), lock_(std::make_unique<FileDescriptor>()), log_(std::make_unique<FileDescriptor>()) {
    if (is_there(path_) && !fs::is_directory(path_))
        throw InputError(fmt::format("{} is a file, expected a folder for the run", path_.string()));
    const bool locked = take_lock(false);
    check_contents(resume);
    if (locked)
        return;
    std::error_code error;
    fs::create_directories(path_, error);
    if (error)
        throw InputError(fmt::format("{}: cannot create the folder: {}", path_.string(), error.message()));
    take_lock(true);
    check_contents(resume);  // again, now that nobody else can start a run here
}

RunFolder::~RunFolder() = default;

void RunFolder::check_contents(bool resume) const {
    if (resume && !is_there(checkpoint_file()))
        throw InputError(fmt::format("{} holds no checkpoint to resume from", path_.string()));
    if (!resume && (is_there(checkpoint_file()) || is_there(log_file()) || is_there(path_ / "summary.json")))
        throw InputError(fmt::format("{} already holds a run; use --resume or another folder", path_.string()));
}

bool RunFolder::take_lock(bool create) {
    const fs::path file = path_ / ".lock";
    *lock_ = FileDescriptor::open(file, create ? O_RDWR | O_CREAT : O_RDWR);
    if (!lock_->valid() && !create && (errno == ENOENT || errno == ENOTDIR))
        return false;
    if (!lock_->valid())
        throw InputError(fmt::format("{}: cannot open the lock: {}", file.string(), std::strerror(errno)));
    if (::flock(lock_->get(), LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno == EWOULDBLOCK)
        throw InputError(fmt::format("{} is in use by another process", path_.string()));
    throw InputError(fmt::format("{}: cannot lock: {}", file.string(), std::strerror(errno)));
}

std::uint32_t RunFolder::open_log(std::uint32_t round) {
    std::uint32_t last = 0;
    std::string kept;
    std::uintmax_t kept_of = 0;  // bytes of the file that is there
    if (is_there(log_file())) {
        std::ifstream in(log_file(), std::ios::binary);
        for (std::string line; std::getline(in, line);) {
            const auto number = round_of(line);
            if (!number || *number > round)
                continue;
            kept += line + '\n';
            last = std::max(last, *number);
        }
        kept_of = fs::file_size(log_file());
    }
    if (kept.size() != kept_of)
        write_durably(log_file(), kept);
    *log_ = FileDescriptor::open(log_file(), O_WRONLY | O_CREAT | O_APPEND);
    if (!log_->valid())
        throw_io_error(log_file(), "open");
    sync_folder(path_);
    return last;
}

void RunFolder::append_round(std::string_view line) {
    require(log_->valid(), "append_round before open_log");
    write_all(*log_, log_file(), std::string(line) + '\n');
    if (::fdatasync(log_->get()) != 0)
        throw_io_error(log_file(), "sync");
}

}  // namespace dither
