// NumPy's arrays: .npy files, in a folder or within a .npz file.
#pragma once

#include "core/data/detail/binary_file.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace dither::detail {

enum class NpyType : std::uint8_t { u1, i4, i8, f4, f8 };

struct NpyArray {
    std::string path;  ///< for messages
    NpyType type = NpyType::u1;
    std::vector<std::int64_t> extents;  ///< 1 to 4, none of them 0, the last one contiguous
    std::vector<std::uint8_t> bytes;    ///< little-endian

    /// Of the outermost extent's each place.
    std::size_t item_count() const;
};

/// Versions 1 to 3 of the format, little-endian, in C's order. Throws InputError that names the source on anything
/// else. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
NpyArray read_npy(ByteSource& source);

/// Arrays by name.
class NpyArchive {
public:
    virtual ~NpyArchive() = default;

    /// The array `name`, if there is one.
    virtual std::optional<NpyArray> find(const std::string& name) = 0;
};

/// A zip file of .npy files, stored or deflated, as numpy.savez and savez_compressed write it. Throws InputError when
/// it cannot be read, also by a build without libzip.
std::unique_ptr<NpyArchive> open_npz(const std::string& path);

}  // namespace dither::detail
