// The integers of a grid payload without a model of them: a section a layer, packed at the width of its largest, or
// compressed. README.md has the bytes.
#pragma once

#include "transport/detail/zstd.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace dither::detail {

inline constexpr std::size_t kSectionHeaderBytes = 10;
inline constexpr std::size_t kGridChunk = 4096;  ///< integers that are handed on at once; whole bytes at any width

/// FormatError unless `holds`, naming codec and layer.
void check_grid(bool holds, std::size_t layer, std::string_view problem);

/// Writes one section after the other, each in pieces. Packed codes are never held unpacked: memory is the payload's.
/// Not thread-safe; `out` is the same for a whole payload.
class SectionWriter {
public:
    /// compresses: by zstd, where that is shorter; then a layer's codes are held until all are there.
    explicit SectionWriter(bool compresses) : compresses_(compresses) {}

    /// Begins a layer's section at the end of `out`.
    void begin(std::size_t count, float step, std::vector<std::byte>& out);
    /// The next integers of the layer: kGridChunk of them, or all that are left. `used_bits`: their union, folded.
    void add(std::span<const std::int32_t> q, std::uint32_t used_bits, std::vector<std::byte>& out);
    void finish(std::vector<std::byte>& out);

private:
    void widen(unsigned width, std::vector<std::byte>& out);
    bool compress(std::vector<std::byte>& out);

    bool compresses_;
    std::size_t begin_ = 0;  ///< of the section
    std::size_t count_ = 0;
    std::size_t added_ = 0;
    float step_ = 0;
    unsigned width_ = 0;           ///< of the largest integer so far
    std::vector<std::int32_t> q_;  ///< of the layer, where it is to be compressed; else scratch
    std::vector<std::byte> repacked_;
    Compressor compressor_;
    std::vector<std::byte> planes_;
    std::vector<std::byte> compressed_;
};

/// Reads one section after the other. Not thread-safe; borrows the payload.
class SectionReader {
public:
    explicit SectionReader(std::span<const std::byte> payload) : rest_(payload) {}

    /// The header of the next layer's section, and all checks that need no codes. `step` is the commanded one.
    void open(std::size_t layer, std::size_t count, float step);
    /// Bits of the largest folded integer.
    unsigned width() const { return width_; }
    /// The next integers of the layer: kGridChunk of them, or all that are left. Checks what is known at its end.
    std::span<const std::int32_t> next();
    bool exhausted() const { return rest_.empty(); }

private:
    void read_packed(std::size_t count);
    void read_planes(std::size_t count);

    std::span<const std::byte> rest_;
    std::span<const std::byte> codes_;  ///< of the layer, from the next on
    Decompressor decompressor_;
    std::vector<std::byte> planes_;  ///< of the layer; empty: it is packed
    std::vector<std::int32_t> q_ = std::vector<std::int32_t>(kGridChunk);
    std::size_t layer_ = 0;
    std::size_t count_ = 0;
    std::size_t left_ = 0;
    unsigned width_ = 0;
    std::uint32_t used_bits_ = 0;
};

}  // namespace dither::detail
