#include "aggregator/detail/file_descriptor.hpp"

#include "core/error.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

namespace dither {

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

}  // namespace dither
