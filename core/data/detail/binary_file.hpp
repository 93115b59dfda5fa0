// Bytes of files, plain or compressed by gzip.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace dither::detail {

/// Bytes that are read once, from the first to the last. Throws InputError that names them when they are damaged.
class ByteSource {
public:
    virtual ~ByteSource() = default;

    /// Fills `to` and returns its size; fewer only at the end.
    virtual std::size_t read(std::span<std::uint8_t> to) = 0;
    virtual const std::string& path() const = 0;  ///< for messages
};

/// The rest of a source, which must be `count` bytes. Memory grows with what is there, not with what a header says.
std::vector<std::uint8_t> read_rest(ByteSource& source, std::size_t count);

/// zlib tells plain from compressed by the content. Throws InputError that names the file when it cannot be opened, and
/// when the compressed data are damaged or end early.
class BinaryFile final : public ByteSource {
public:
    explicit BinaryFile(std::string path);

    std::size_t read(std::span<std::uint8_t> to) override;
    const std::string& path() const override { return path_; }

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
