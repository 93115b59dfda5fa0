#include "core/data/detail/npy.hpp"
#include "core/error.hpp"

#ifdef DITHER_WITH_NPZ
#include <zip.h>

#include <utility>
#endif

namespace dither::detail {

#ifdef DITHER_WITH_NPZ
namespace {

struct CloseArchive {
    void operator()(zip_t* archive) const { zip_discard(archive); }
};
struct CloseFile {
    void operator()(zip_file_t* file) const { zip_fclose(file); }
};

class ZipMember final : public ByteSource {
public:
    ZipMember(zip_t* archive, zip_uint64_t index, std::string path)
        : path_(std::move(path)), file_(zip_fopen_index(archive, index, 0)) {
        if (file_ == nullptr)
            throw InputError(fmt::format("{}: {}", path_, zip_strerror(archive)));
    }

    std::size_t read(std::span<std::uint8_t> to) override {
        std::size_t got = 0;
        while (got < to.size()) {
            const zip_int64_t step = zip_fread(file_.get(), to.data() + got, to.size() - got);
            if (step < 0)
                throw InputError(fmt::format("{}: {}", path_, zip_file_strerror(file_.get())));
            if (step == 0)
                break;
            got += static_cast<std::size_t>(step);
        }
        return got;
    }
    const std::string& path() const override { return path_; }

private:
    std::string path_;
    std::unique_ptr<zip_file_t, CloseFile> file_;
};

class Npz final : public NpyArchive {
public:
    explicit Npz(const std::string& path) : path_(path) {
        int code = 0;
        archive_.reset(zip_open(path.c_str(), ZIP_RDONLY, &code));
        if (archive_ != nullptr)
            return;
        zip_error_t error;
        zip_error_init_with_code(&error, code);
        const std::string reason = zip_error_strerror(&error);
        zip_error_fini(&error);
        throw InputError(fmt::format("{}: {}", path, reason));
    }

    std::optional<NpyArray> find(const std::string& name) override {
        const std::string member = name + ".npy";
        const zip_int64_t index = zip_name_locate(archive_.get(), member.c_str(), 0);
        if (index < 0)
            return std::nullopt;
        const std::string path = path_ + ":" + member;
        const auto place = static_cast<zip_uint64_t>(index);
        check_method(place, path);
        ZipMember source(archive_.get(), place, path);
        return read_npy(source);
    }

private:
    /// Deflate makes bytes at most a thousandfold; others have no such bound.
    void check_method(zip_uint64_t index, const std::string& path) const {
        zip_stat_t stat;
        zip_stat_init(&stat);
        if (zip_stat_index(archive_.get(), index, 0, &stat) != 0)
            throw InputError(fmt::format("{}: {}", path, zip_strerror(archive_.get())));
        if (stat.comp_method != ZIP_CM_STORE && stat.comp_method != ZIP_CM_DEFLATE)
            throw InputError(
                fmt::format("{}: expected it stored or deflated, as numpy.savez and savez_compressed write "
                            "it, found compression {}",
                            path, stat.comp_method));
    }

    std::string path_;
    std::unique_ptr<zip_t, CloseArchive> archive_;
};

}  // namespace

std::unique_ptr<NpyArchive> open_npz(const std::string& path) {
    return std::make_unique<Npz>(path);
}

#else

std::unique_ptr<NpyArchive> open_npz(const std::string& path) {
    throw InputError(
        fmt::format("{}: this build reads no .npz files (DITHER_NPZ=OFF): expected a folder of .npy files", path));
}

#endif

}  // namespace dither::detail
