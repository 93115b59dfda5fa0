// Files that are replaced whole or not at all, and the POSIX descriptors and few durable operations beneath.
#pragma once

#include <filesystem>
#include <string_view>
#include <utility>

namespace dither {

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

/// Replaces `file` by `bytes`: writes a temporary file beside it, syncs it, renames it and syncs the folder. Throws
/// IoError, and leaves no temporary file behind then. Threads and processes may replace one file at the same time: it
/// is always whole, and the last one's. A writer that is killed may leave its temporary file, FILE.PROCESS-NUMBER.tmp,
/// which the next write of the same file removes.
void write_durably(const std::filesystem::path& file, std::string_view bytes);

/// Creates `folder` and what is missing above it, each durable in the one above. Throws IoError.
void create_folders(const std::filesystem::path& folder);

/// IoError "FILE: cannot WHAT: strerror(errno)".
[[noreturn]] void throw_io_error(const std::filesystem::path& file, std::string_view what);
/// Writes all of `bytes`, whatever the kernel takes at a time. `file` is for the error.
void write_all(const FileDescriptor& to, const std::filesystem::path& file, std::string_view bytes);
/// fsync of the folder: makes a rename or a new file in it durable.
void sync_folder(const std::filesystem::path& folder);

}  // namespace dither
