#include "core/storage.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace dither {

namespace fs = std::filesystem;

namespace {

std::uint64_t size_of(const FileDescriptor& descriptor, const fs::path& file) {
    struct stat status {};
    if (::fstat(descriptor.get(), &status) != 0)
        throw_io_error(file, "look at");
    return static_cast<std::uint64_t>(status.st_size);
}

class FolderFile final : public AppendFile {
public:
    explicit FolderFile(fs::path path)
        : path_(std::move(path)), file_(FileDescriptor::open(path_, O_WRONLY | O_CREAT | O_APPEND)) {
        if (!file_.valid())
            throw_io_error(path_, "open");
        size_ = size_of(file_, path_);
        sync_folder(path_.parent_path());
    }

    void append(std::string_view bytes) override {
        check_usable();
        try {
            write_all(file_, path_, bytes);
        } catch (const IoError&) {
            forget_torn_end();
            throw;
        }
        size_ += bytes.size();
    }

    void sync() override {
        check_usable();
        usable_ = false;
        if (::fdatasync(file_.get()) != 0)  // even for want of space: what was appended before may be lost
            throw IoError(fmt::format("{}: cannot sync: {}", path_.string(), std::strerror(errno)));
        usable_ = true;
    }

    void truncate(std::uint64_t size) override {
        check_usable();
        cut_to(size);
        sync();
    }

    std::uint64_t size() const override { return size_; }

private:
    void check_usable() const { require(usable_, "{} is used after it failed", path_.string()); }

    /// Never DiskFull, though some file systems need room to cut: the file holds then what it must not.
    void cut_to(std::uint64_t size) {
        usable_ = false;
        if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0)
            throw IoError(fmt::format("{}: cannot cut: {}", path_.string(), std::strerror(errno)));
        size_ = size;
        usable_ = true;
    }

    /// What a failed write has left behind.
    void forget_torn_end() {
        usable_ = false;
        if (size_of(file_, path_) != size_)
            cut_to(size_);
        usable_ = true;
    }

    fs::path path_;
    FileDescriptor file_;
    std::uint64_t size_ = 0;
    bool usable_ = true;  ///< false: nobody knows what it holds
};

class FolderStorage final : public Storage {
public:
    explicit FolderStorage(fs::path folder) : folder_(std::move(folder)) {}

    std::optional<std::string> read(const std::string& name) const override {
        const FileDescriptor file = open_to_read(name);
        if (!file.valid())
            return std::nullopt;
        return read_from(file, name, 0, size_of(file, path_of(name)));
    }

    std::string read_part(const std::string& name, std::uint64_t offset, std::size_t size) const override {
        const FileDescriptor file = open_to_read(name);
        if (!file.valid())
            return {};
        const std::uint64_t all = size_of(file, path_of(name));
        return read_from(file, name, offset, std::min<std::uint64_t>(size, all - std::min(all, offset)));
    }

    void replace(const std::string& name, const ByteSource& write) override { write_durably(path_of(name), write); }

    std::unique_ptr<AppendFile> open_append(const std::string& name) override {
        return std::make_unique<FolderFile>(path_of(name));
    }

    bool exists(const std::string& name) const override {
        std::error_code ignored;
        return fs::exists(path_of(name), ignored);
    }

private:
    fs::path path_of(const std::string& name) const {
        require(!name.empty() && name.find('/') == name.npos, "\"{}\" is no plain file name", name);
        return folder_ / name;
    }

    /// Not valid if there is none.
    FileDescriptor open_to_read(const std::string& name) const {
        FileDescriptor file = FileDescriptor::open(path_of(name), O_RDONLY);
        if (!file.valid() && errno != ENOENT)
            throw_io_error(path_of(name), "open");
        return file;
    }

    std::string read_from(const FileDescriptor& file, const std::string& name, std::uint64_t offset,
                          std::size_t size) const {
        std::string bytes(size, '\0');
        std::size_t done = 0;
        while (done < size) {
            const ssize_t got =
                ::pread(file.get(), bytes.data() + done, size - done, static_cast<off_t>(offset + done));
            if (got < 0 && errno != EINTR)
                throw_io_error(path_of(name), "read");
            if (got == 0)  // somebody cuts it
                break;
            done += got > 0 ? static_cast<std::size_t>(got) : 0;
        }
        bytes.resize(done);
        return bytes;
    }

    fs::path folder_;
};

}  // namespace

std::string Storage::read_part(const std::string& name, std::uint64_t offset, std::size_t size) const {
    const std::string all = read(name).value_or("");
    return offset < all.size() ? all.substr(offset, size) : "";
}

void Storage::replace(const std::string& name, std::string_view bytes) {
    replace(name, [&](const ByteSink& sink) { sink(bytes); });
}

std::unique_ptr<Storage> make_folder_storage(const fs::path& folder) {
    return std::make_unique<FolderStorage>(folder);
}

}  // namespace dither
