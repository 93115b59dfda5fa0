#include "core/data/detail/binary_file.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <filesystem>
#include <utility>

namespace dither::detail {

std::vector<std::uint8_t> read_rest(ByteSource& source, std::size_t count) {
    constexpr std::size_t kStep = std::size_t{16} << 20;
    std::vector<std::uint8_t> bytes;
    while (bytes.size() < count) {
        const std::size_t start = bytes.size();
        const std::size_t step = std::min(kStep, count - start);
        bytes.resize(start + step);
        if (const std::size_t got = source.read(std::span(bytes).subspan(start)); got < step)
            throw InputError(fmt::format("{}: truncated: expected {} bytes after the header, found {}", source.path(),
                                         count, start + got));
    }
    std::uint8_t extra = 0;
    if (source.read({&extra, 1}) != 0)
        throw InputError(fmt::format("{}: expected {} bytes after the header, found more", source.path(), count));
    return bytes;
}

BinaryFile::BinaryFile(std::string path) : path_(std::move(path)), file_(gzopen(path_.c_str(), "rb")) {
    if (file_ == nullptr)
        throw InputError(fmt::format("{}: cannot be opened", path_));
}

std::size_t BinaryFile::read(std::span<std::uint8_t> to) {
    const int got = gzread(file_.get(), to.data(), static_cast<unsigned>(to.size()));
    int code = Z_OK;
    const char* const message = gzerror(file_.get(), &code);  // begins with the path
    if (code == Z_BUF_ERROR)
        throw InputError(fmt::format("{}: truncated: the compressed data end early", path_));
    if (got < 0)
        throw InputError(message);
    return static_cast<std::size_t>(got);
}

std::optional<std::string> find_plain_or_gz(const std::string& folder, const std::string& name) {
    const std::string plain = (std::filesystem::path(folder) / name).string();
    for (const std::string& path : {plain, plain + ".gz"})
        if (std::filesystem::is_regular_file(path))
            return path;
    return std::nullopt;
}

BinaryFile open_plain_or_gz(const std::string& folder, const std::string& name) {
    if (const std::optional<std::string> path = find_plain_or_gz(folder, name))
        return BinaryFile(*path);
    throw InputError(
        fmt::format("{}: not found, neither plain nor with .gz", (std::filesystem::path(folder) / name).string()));
}

}  // namespace dither::detail
