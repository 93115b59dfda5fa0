// Files of bytes, plain or compressed by gzip.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>

namespace dither::detail {

/// Read from its beginning to its end; zlib tells plain from compressed by the content. Throws InputError that names
/// the file when it cannot be opened, and when the compressed data are damaged or end early.
class BinaryFile {
public:
    explicit BinaryFile(std::string path);

    /// Fills `to` and returns its size; fewer only at the end of the file.
    std::size_t read(std::span<std::uint8_t> to);
    const std::string& path() const { return path_; }

private:
    struct Close {
        void operator()(gzFile file) const { gzclose(file); }
    };

    std::string path_;
    std::unique_ptr<std::remove_pointer_t<gzFile>, Close> file_;
};

/// folder/name, else folder/name.gz, if there is such a file.
std::optional<std::string> find_plain_or_gz(const std::string& folder, const std::string& name);
/// Throws InputError that names the file if there is neither.
BinaryFile open_plain_or_gz(const std::string& folder, const std::string& name);

}  // namespace dither::detail
