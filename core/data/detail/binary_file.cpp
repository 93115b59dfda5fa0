#include "core/data/detail/binary_file.hpp"

#include "core/error.hpp"

#include <filesystem>
#include <utility>

namespace dither::detail {

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
