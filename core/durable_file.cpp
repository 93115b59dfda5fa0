#include "core/durable_file.hpp"

#include "core/error.hpp"

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace dither {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kTemporary = ".tmp";

/// FILE.PROCESS-NUMBER.tmp, a name that this process has not used before.
fs::path temporary_name(const fs::path& file) {
    static std::atomic<std::uint64_t> used{0};
    return fs::path(file) += fmt::format(".{}-{}{}", ::getpid(), used++, kTemporary);
}

bool is_temporary_name(std::string_view name, std::string_view file) {
    if (!name.starts_with(file) || !name.ends_with(kTemporary) || name.size() <= file.size() + kTemporary.size())
        return false;
    name.remove_prefix(file.size());
    name.remove_suffix(kTemporary.size());
    return name.front() == '.' && name.find('-') != name.npos && name.find_first_not_of("0123456789-", 1) == name.npos;
}

/// A file that vanishes with the object unless it was renamed into place. It is locked as long as its writer lives.
class TemporaryFile {
public:
    explicit TemporaryFile(const fs::path& target) {
        do {
            path_ = temporary_name(target);
            file_ = FileDescriptor::open(path_, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
            if (!file_.valid() && errno != EEXIST)
                throw_io_error(path_, "create");
        } while (!file_.valid() || !take());
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    ~TemporaryFile() {
        if (!kept_)
            ::unlink(path_.c_str());
    }

    void write(std::string_view bytes) { write_all(file_, path_, bytes); }

    void rename_to(const fs::path& target) {
        sync(file_, path_);
        if (::rename(path_.c_str(), target.c_str()) != 0)
            throw_io_error(target, "replace");
        kept_ = true;
    }

private:
    /// False if remove_abandoned(), of another process, came between creating and locking. A file system without locks
    /// has nobody who removes.
    bool take() const {
        struct stat status {};
        const bool taken = ::flock(file_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        return !taken && ::fstat(file_.get(), &status) == 0 && status.st_nlink > 0;
    }

    fs::path path_;
    FileDescriptor file_;
    bool kept_ = false;
};

fs::path folder_of(const fs::path& file) {
    return file.has_parent_path() ? file.parent_path() : fs::path(".");
}

/// Removes the temporary files of `file` whose writers were killed: nobody holds their locks. One that cannot be
/// removed is in nobody's way.
void remove_abandoned(const fs::path& file) {
    std::error_code error;
    const std::string name = file.filename().string();
    for (fs::directory_iterator at(folder_of(file), error), end; !error && at != end; at.increment(error)) {
        if (!is_temporary_name(at->path().filename().string(), name))
            continue;
        const FileDescriptor temporary = FileDescriptor::open(at->path(), O_WRONLY | O_NOFOLLOW | O_NONBLOCK);
        if (temporary.valid() && ::flock(temporary.get(), LOCK_EX | LOCK_NB) == 0)
            ::unlink(at->path().c_str());
    }
}

}  // namespace

FileDescriptor::~FileDescriptor() {
    if (valid())
        ::close(fd_);
}

FileDescriptor FileDescriptor::open(const fs::path& file, int flags) {
    constexpr int kMode = 0644;
    int fd = -1;
    do
        fd = ::open(file.c_str(), flags | O_CLOEXEC, kMode);
    while (fd < 0 && errno == EINTR);
    return FileDescriptor(fd);
}

void throw_io_error(const fs::path& file, std::string_view what) {
    const int error = errno;
    const std::string message = fmt::format("{}: cannot {}: {}", file.string(), what, std::strerror(error));
    if (error == ENOSPC || error == EDQUOT || error == EFBIG)
        throw DiskFull(message);
    throw IoError(message);
}

void sync(const FileDescriptor& descriptor, const fs::path& file) {
    if (::fsync(descriptor.get()) != 0)  // even for want of space: what was written before may be lost
        throw IoError(fmt::format("{}: cannot sync: {}", file.string(), std::strerror(errno)));
}

void write_all(const FileDescriptor& to, const fs::path& file, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(to.get(), bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            throw_io_error(file, "write");
        bytes.remove_prefix(static_cast<std::size_t>(written));
    }
}

void sync_folder(const fs::path& folder) {
    const FileDescriptor descriptor = FileDescriptor::open(folder, O_RDONLY | O_DIRECTORY);
    if (!descriptor.valid())
        throw_io_error(folder, "open the folder");
    sync(descriptor, folder);
}

void create_folders(const fs::path& folder) {
    std::error_code error;
    if (folder.empty() || fs::is_directory(folder, error))
        return;
    create_folders(folder.parent_path());
    fs::create_directory(folder, error);
    if (error)
        throw IoError(fmt::format("{}: cannot create the folder: {}", folder.string(), error.message()));
    sync_folder(folder_of(folder));
}

void write_durably(const fs::path& file, const ByteSource& write) {
    remove_abandoned(file);
    TemporaryFile temporary(file);
    write([&](std::string_view bytes) { temporary.write(bytes); });
    temporary.rename_to(file);
    sync_folder(folder_of(file));
}

void write_durably(const fs::path& file, std::string_view bytes) {
    write_durably(file, [&](const ByteSink& sink) { sink(bytes); });
}

}  // namespace dither
