// Codes of one width, 0 to 32 bits, packed without gaps: code i takes bits i * width and up of a little-endian bit
// string, the lowest bit of a byte first. The last byte is filled up with zeros.
#pragma once

#include "core/error.hpp"
#include "core/little_endian.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace dither::detail {

constexpr std::size_t packed_bytes(std::size_t count, unsigned width) {
    return (count * width + 7) / 8;
}

/// Appends to `out`. Every code fits in `width` bits.
inline void pack_bits(std::span<const std::uint32_t> codes, unsigned width, std::vector<std::byte>& out) {
    constexpr unsigned kWord = 32;
    const std::size_t begin = out.size();
    // Whole words are stored, so there is room for one more than is needed; the end is cut off below.
    out.resize(begin + packed_bytes(codes.size(), width) + sizeof(std::uint32_t));
    std::byte* to = out.data() + begin;
    std::uint64_t pending = 0;
    unsigned filled = 0;  // < kWord
    for (const std::uint32_t code : codes) {
        pending |= std::uint64_t{code} << filled;
        filled += width;
        if (filled >= kWord) {
            store_little(static_cast<std::uint32_t>(pending), to);
            to += sizeof(std::uint32_t);
            pending >>= kWord;
            filled -= kWord;
        }
    }
    store_little(static_cast<std::uint32_t>(pending), to);
    out.resize(begin + packed_bytes(codes.size(), width));
}

/// Hands the codes out again, in pieces. Borrows `bytes`, which has packed_bytes(count, width) of them.
class BitReader {
public:
    BitReader(std::span<const std::byte> bytes, unsigned width) : bytes_(bytes), width_(width) {}

    void next(std::span<std::uint32_t> codes) {
        const std::uint64_t mask = (std::uint64_t{1} << width_) - 1;
        for (std::uint32_t& code : codes) {
            if (filled_ < width_)
                refill();
            code = static_cast<std::uint32_t>(pending_ & mask);
            pending_ >>= width_;
            filled_ -= width_;
        }
    }
    /// After the last code: whether only zeros are left.
    bool only_padding_left() const { return bytes_.empty() && pending_ == 0; }

private:
    /// One word, or the bytes that are left of it. filled_ < width_ <= 32, so 64 bits hold both.
    void refill() {
        const std::size_t size = bytes_.size() < kWordBytes ? bytes_.size() : kWordBytes;
        std::byte word[kWordBytes]{};
        std::memcpy(word, bytes_.data(), size);
        pending_ |= std::uint64_t{load_little<std::uint32_t>(word)} << filled_;
        filled_ += 8 * kWordBytes;
        bytes_ = bytes_.subspan(size);
    }

    static constexpr std::size_t kWordBytes = sizeof(std::uint32_t);
    std::span<const std::byte> bytes_;
    unsigned width_;
    std::uint64_t pending_ = 0;
    unsigned filled_ = 0;
};

}  // namespace dither::detail
