// Files that are replaced whole or not at all, and the POSIX descriptors and few durable operations beneath.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>
#include <utility>

namespace dither {

/// Takes bytes, in order.
using ByteSink = std::function<void(std::string_view bytes)>;
/// Gives bytes to the sink: a file that need not be in memory at once.
using ByteSource = std::function<void(const ByteSink& sink)>;

/// An owned POSIX file descriptor. Closes on destruction. Movable, not copyable.
class FileDescriptor {
public:
    FileDescriptor() = default;
    explicit FileDescriptor(int fd) : fd_(fd) {}
    FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~FileDescriptor();

    /// open(2) with O_CLOEXEC; not valid() on failure, with errno set.
    static FileDescriptor open(const std::filesystem::path& file, int flags);

    bool valid() const { return fd_ >= 0; }
    int get() const { return fd_; }

private:
    int fd_ = -1;
};

/// Replaces `file` by what `write` gives to its sink: writes a temporary file beside it, syncs it, renames it and syncs
/// the folder. Throws IoError (DiskFull where no space is left) and what `write` throws, and leaves `file` as it was
/// and no temporary file behind then; only where the folder cannot be synced, `file` may be either. Threads and
/// processes may replace one file at the same time: it is always whole, and the last one's. A writer that is killed may
/// leave its temporary file, FILE.PROCESS-NUMBER.tmp, which the next write of the same file removes.
void write_durably(const std::filesystem::path& file, const ByteSource& write);
void write_durably(const std::filesystem::path& file, std::string_view bytes);

/// Creates `folder` and what is missing above it, each durable in the one above. Throws IoError.
void create_folders(const std::filesystem::path& folder);

/// IoError "FILE: cannot WHAT: strerror(errno)"; DiskFull where errno says that no space is left, or no quota.
[[noreturn]] void throw_io_error(const std::filesystem::path& file, std::string_view what);
/// Writes all of `bytes`, whatever the kernel takes at a time. `file` is for the error.
void write_all(const FileDescriptor& to, const std::filesystem::path& file, std::string_view bytes);
/// fsync. A failure is an IoError, never DiskFull: nobody knows what is on the disk then.
void sync(const FileDescriptor& descriptor, const std::filesystem::path& file);
/// fsync of the folder: makes a rename or a new file in it durable.
void sync_folder(const std::filesystem::path& folder);

}  // namespace dither
