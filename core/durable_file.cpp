#include "core/durable_file.hpp"

#include "core/error.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

namespace dither {

namespace fs = std::filesystem;

namespace {

/// A file that vanishes with the object unless it was renamed into place.
class TemporaryFile {
public:
    explicit TemporaryFile(fs::path path)
        : path_(std::move(path)), file_(FileDescriptor::open(path_, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW)) {
        if (!file_.valid())
            throw_io_error(path_, "create");
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    ~TemporaryFile() {
        if (!kept_)
            ::unlink(path_.c_str());
    }

    void write(std::string_view bytes) {
        write_all(file_, path_, bytes);
        if (::fsync(file_.get()) != 0)
            throw_io_error(path_, "sync");
    }

    void rename_to(const fs::path& target) {
        if (::rename(path_.c_str(), target.c_str()) != 0)
            throw_io_error(target, "replace");
        kept_ = true;
    }

private:
    fs::path path_;
    FileDescriptor file_;
    bool kept_ = false;
};

fs::path folder_of(const fs::path& file) {
    return file.has_parent_path() ? file.parent_path() : fs::path(".");
}

}  // namespace

FileDescriptor::~FileDescriptor() {
    if (valid())
        ::close(fd_);
}

FileDescriptor FileDescriptor::open(const std::filesystem::path& file, int flags) {
    constexpr int kMode = 0644;
    int fd = -1;
    do
        fd = ::open(file.c_str(), flags | O_CLOEXEC, kMode);
    while (fd < 0 && errno == EINTR);
    return FileDescriptor(fd);
}

void throw_io_error(const std::filesystem::path& file, std::string_view what) {
    const int error = errno;
    throw IoError(fmt::format("{}: cannot {}: {}", file.string(), what, std::strerror(error)));
}

void write_all(const FileDescriptor& to, const std::filesystem::path& file, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(to.get(), bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            throw_io_error(file, "write");
        bytes.remove_prefix(static_cast<std::size_t>(written));
    }
}

void sync_folder(const std::filesystem::path& folder) {
    const FileDescriptor descriptor = FileDescriptor::open(folder, O_RDONLY | O_DIRECTORY);
    if (!descriptor.valid())
        throw_io_error(folder, "open the folder");
    if (::fsync(descriptor.get()) != 0)
        throw_io_error(folder, "sync the folder");
}

void write_durably(const fs::path& file, std::string_view bytes) {
    TemporaryFile temporary(fs::path(file) += ".tmp");
    temporary.write(bytes);
    temporary.rename_to(file);
    sync_folder(folder_of(file));
}

}  // namespace dither
