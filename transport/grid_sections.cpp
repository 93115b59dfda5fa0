#include "transport/detail/grid_sections.hpp"

#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "core/simd.hpp"
#include "transport/detail/bit_stream.hpp"
#include "transport/detail/grid_rounding.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace dither::detail {
namespace {

constexpr unsigned kMaxWidth = 32;

enum class Mode : std::uint8_t { packed = 0, zstd = 1 };

void write_header(Mode mode, unsigned width, std::size_t bytes, float step, std::byte* header) {
    store_little(static_cast<std::uint8_t>(mode), header);
    store_little(static_cast<std::uint8_t>(width), header + 1);
    store_little(static_cast<std::uint32_t>(bytes), header + 2);
    store_little(step, header + 6);
}

constexpr unsigned kNarrowPacking = 16;

/// Eight codes of at most kNarrowPacking bits at once: two words of four, which begin half a byte apart where the width
/// is odd. `out` has room for 8 bytes beyond the last code. An eighth of `count` is whole.
DITHER_CLONES void pack_narrow(const std::int32_t* q, std::size_t count, unsigned width, std::byte* out) {
    const unsigned half_byte = 4 * width % 8;
    for (std::size_t i = 0; i < count; i += 8, out += width) {
        std::uint64_t words[2]{};
        for (unsigned k = 0; k < 4; ++k) {
            words[0] |= std::uint64_t{fold(q[i + k])} << (k * width);
            words[1] |= std::uint64_t{fold(q[i + 4 + k])} << (k * width + half_byte);
        }
        store_little(words[0], out);
        std::byte* const second = out + 4 * width / 8;
        store_little(words[1] | (half_byte == 0 ? 0 : std::to_integer<std::uint64_t>(*second)), second);
    }
}

void pack(std::span<const std::int32_t> q, unsigned width, std::vector<std::byte>& out) {
    const std::size_t narrow = width <= kNarrowPacking ? q.size() / 8 * 8 : 0;
    const std::size_t begin = out.size();
    out.resize(begin + narrow * width / 8 + sizeof(std::uint64_t));
    pack_narrow(q.data(), narrow, width, out.data() + begin);
    out.resize(begin + narrow * width / 8);
    std::vector<std::uint32_t> rest(q.size() - narrow);
    std::ranges::transform(q.subspan(narrow), rest.begin(), fold);
    pack_bits(rest, width, out);
}

// Packed codes of 8 and 4 bits are loops over bytes, which vectorize; all others of at most 24 bits lie within the four
// bytes from the one that they begin in. Each gives the union of the folded codes.

DITHER_CLONES std::uint32_t unpack_8(const std::byte* bytes, std::size_t count, std::int32_t* q) {
    std::uint32_t used = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto z = static_cast<std::uint32_t>(bytes[i]);
        used |= z;
        q[i] = unfold(z);
    }
    return used;
}

/// An even count.
DITHER_CLONES std::uint32_t unpack_4(const std::byte* bytes, std::size_t count, std::int32_t* q) {
    std::uint32_t used = 0;
    for (std::size_t i = 0; i < count / 2; ++i) {
        const auto pair = static_cast<std::uint32_t>(bytes[i]);
        used |= (pair & 15) | (pair >> 4);
        q[2 * i] = unfold(pair & 15);
        q[2 * i + 1] = unfold(pair >> 4);
    }
    return used;
}

/// Three bytes behind the last code's first are read.
std::uint32_t unpack_narrow(const std::byte* bytes, unsigned width, std::size_t count, std::int32_t* q) {
    const std::uint32_t mask = (1U << width) - 1;
    std::uint32_t used = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t bit = i * width;
        const std::uint32_t z = (load_little<std::uint32_t>(bytes + bit / 8) >> (bit % 8)) & mask;
        used |= z;
        q[i] = unfold(z);
    }
    return used;
}

std::uint32_t unpack_wide(std::span<const std::byte> bytes, unsigned width, std::span<std::int32_t> q) {
    BitReader reader(bytes, width);
    std::uint32_t used = 0;
    for (std::int32_t& code : q) {
        std::uint32_t z = 0;
        reader.next(std::span(&z, 1));
        used |= z;
        code = unfold(z);
    }
    return used;
}

/// `bytes` may end with the last code.
std::uint32_t unpack(std::span<const std::byte> bytes, unsigned width, std::span<std::int32_t> q) {
    constexpr unsigned kNarrow = 24;
    constexpr std::size_t kBehind = 3;
    if (width == 8)
        return unpack_8(bytes.data(), q.size(), q.data());
    if (width > kNarrow)
        return unpack_wide(bytes, width, q);
    // The codes that are safe to read; the others from a copy with room behind it.
    const std::size_t safe =
        bytes.size() <= kBehind || width == 0 ? 0 : std::min(q.size(), (bytes.size() - kBehind) * 8 / width / 8 * 8);
    std::array<std::byte, 8 * kNarrow> rest{};
    const std::span<const std::byte> tail = bytes.subspan(safe * width / 8);
    std::copy(tail.begin(), tail.end(), rest.begin());
    const std::span<std::int32_t> last = q.subspan(safe);
    return (width == 4 ? unpack_4(bytes.data(), safe, q.data()) : unpack_narrow(bytes.data(), width, safe, q.data())) |
           unpack_narrow(rest.data(), width, last.size(), last.data());
}

bool padding_is_zero(std::span<const std::byte> codes, unsigned width, std::size_t count) {
    const std::size_t used = count * width % 8;
    return used == 0 || std::to_integer<unsigned>(codes.back()) >> used == 0;
}

/// Planes of bytes, the lowest of all codes first: the upper ones are nearly constant, and compress.
unsigned planes_of(unsigned width) {
    return (width + 7) / 8;
}

void split_planes(std::span<const std::int32_t> q, unsigned planes, std::vector<std::byte>& out) {
    out.resize(planes * q.size());
    for (unsigned plane = 0; plane < planes; ++plane)
        std::ranges::transform(q, out.data() + plane * q.size(), [plane](std::int32_t code) {
            return static_cast<std::byte>(fold(code) >> (8 * plane));
        });
}

}  // namespace

void check_grid(bool holds, std::size_t layer, std::string_view problem) {
    if (!holds) [[unlikely]]
        throw FormatError(fmt::format("grid payload, layer {}: {}", layer, problem));
}

void SectionWriter::begin(std::size_t count, float step, std::vector<std::byte>& out) {
    begin_ = out.size();
    count_ = count;
    added_ = 0;
    step_ = step;
    width_ = 0;
    q_.clear();
    out.resize(begin_ + kSectionHeaderBytes);
}

void SectionWriter::add(std::span<const std::int32_t> q, std::uint32_t used_bits, std::vector<std::byte>& out) {
    const unsigned width = std::max(width_, static_cast<unsigned>(std::bit_width(used_bits)));
    if (compresses_) {
        q_.insert(q_.end(), q.begin(), q.end());
    } else {
        if (width > width_)
            widen(width, out);
        pack(q, width, out);
    }
    width_ = width;
    added_ += q.size();
}

/// The codes so far, packed again. That is seldom much: the largest of many is hardly larger than that of the first.
void SectionWriter::widen(unsigned width, std::vector<std::byte>& out) {
    const std::size_t begin = begin_ + kSectionHeaderBytes;
    const std::size_t narrow = packed_bytes(kGridChunk, width_);
    const std::size_t wide = packed_bytes(kGridChunk, width);
    const std::size_t chunks = added_ / kGridChunk;
    out.reserve(begin + packed_bytes(count_, width) + sizeof(std::uint64_t));
    out.resize(begin + chunks * wide);
    q_.resize(kGridChunk);
    for (std::size_t chunk = chunks; chunk-- > 0;) {  // from the last one on, which leaves the others' bytes alone
        unpack(std::span<const std::byte>(out).subspan(begin + chunk * narrow, narrow), width_, q_);
        repacked_.clear();
        pack(q_, width, repacked_);
        std::ranges::copy(repacked_, out.begin() + static_cast<std::ptrdiff_t>(begin + chunk * wide));
    }
}

void SectionWriter::finish(std::vector<std::byte>& out) {
    if (compresses_) {
        if (compress(out))
            return;
        pack(q_, width_, out);
    }
    write_header(Mode::packed, width_, packed_bytes(count_, width_), step_, out.data() + begin_);
}

bool SectionWriter::compress(std::vector<std::byte>& out) {
    split_planes(q_, planes_of(width_), planes_);
    if (!compressor_.compress(planes_, packed_bytes(q_.size(), width_), compressed_))
        return false;
    write_header(Mode::zstd, width_, compressed_.size(), step_, out.data() + begin_);
    out.insert(out.end(), compressed_.begin(), compressed_.end());
    return true;
}

void SectionReader::open(std::size_t layer, std::size_t count, float step) {
    layer_ = layer;
    check_grid(rest_.size() >= kSectionHeaderBytes, layer, "the payload is cut off");
    const auto mode = load_little<std::uint8_t>(rest_.data());
    width_ = load_little<std::uint8_t>(rest_.data() + 1);
    const std::size_t bytes = load_little<std::uint32_t>(rest_.data() + 2);
    const auto echo = load_little<std::uint32_t>(rest_.data() + 6);
    check_grid(mode <= static_cast<std::uint8_t>(Mode::zstd), layer, "the mode is unknown");
    check_grid(width_ <= kMaxWidth, layer, "the width is more than 32 bits");
    check_grid(width_ == 0 || count > 0, layer, "an empty layer has a width");
    check_grid(echo == std::bit_cast<std::uint32_t>(step), layer, "the step is not the commanded one");
    const bool is_packed = mode == static_cast<std::uint8_t>(Mode::packed);
    const std::size_t packed = packed_bytes(count, width_);
    check_grid(is_packed ? bytes == packed : bytes < packed, layer, "its bytes do not fit its width");
    rest_ = rest_.subspan(kSectionHeaderBytes);
    check_grid(bytes <= rest_.size(), layer, "the payload is cut off");
    codes_ = rest_.first(bytes);
    rest_ = rest_.subspan(bytes);
    planes_.resize(is_packed ? 0 : planes_of(width_) * count);
    if (is_packed)
        check_grid(padding_is_zero(codes_, width_, count), layer, "the padding is not zero");
    else if (const std::string problem = decompressor_.decompress(codes_, planes_); !problem.empty())
        check_grid(false, layer, problem);
    count_ = left_ = count;
    used_bits_ = 0;
}

std::span<const std::int32_t> SectionReader::next() {
    const std::size_t count = std::min(left_, kGridChunk);
    if (planes_.empty())
        read_packed(count);
    else
        read_planes(count);
    left_ -= count;
    check_grid(left_ > 0 || static_cast<unsigned>(std::bit_width(used_bits_)) == width_, layer_,
               "its largest integer has another width");
    return std::span(q_).first(count);
}

void SectionReader::read_packed(std::size_t count) {
    const std::size_t bytes = packed_bytes(count, width_);
    used_bits_ |= unpack(codes_.first(bytes), width_, std::span(q_).first(count));
    codes_ = codes_.subspan(bytes);
}

void SectionReader::read_planes(std::size_t count) {
    const std::byte* from = planes_.data() + (count_ - left_);
    for (std::size_t i = 0; i < count; ++i) {
        std::uint32_t z = 0;
        for (unsigned plane = 0; plane < planes_of(width_); ++plane)
            z |= std::to_integer<std::uint32_t>(from[plane * count_ + i]) << (8 * plane);
        used_bits_ |= z;
        q_[i] = unfold(z);
    }
}

}  // namespace dither::detail
