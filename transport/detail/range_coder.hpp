// A binary range coder with carry: bits in, bytes out, at any probability in sixteen bits (Martin, "Range encoding: an
// algorithm for removing redundancy from a digitised message", 1979; the carry as Schindler's and LZMA's).
//
// low and range say the interval that all the bits so far have narrowed down; a byte leaves as soon as nothing but a
// carry can change it. At the end all of low is written: a decoder of the same bits then has read every byte and none
// beyond, and is at the very start of its interval. Bytes that are cut off never are, others hardly ever.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dither::detail {

/// Probabilities of a one are n / 2^16, n in 1 .. 2^16 - 1.
inline constexpr unsigned kProbabilityBits = 16;

/// Below this, range is too small for a probability, and a byte leaves.
inline constexpr std::uint32_t kSmallestRange = 1U << 24;

class RangeEncoder {
public:
    /// Appends to `out`, which is borrowed.
    explicit RangeEncoder(std::vector<std::byte>& out) : out_(&out), begin_(out.size()) {}

    /// Returns `bit`, so that one function can both code and decode.
    bool code(bool bit, std::uint32_t probability) {
        const std::uint32_t ones = (range_ >> kProbabilityBits) * probability;
        if (bit) {
            range_ = ones;
        } else {
            low_ += ones;
            range_ -= ones;
        }
        normalize();
        return bit;
    }
    bool code_unguessed(bool bit, std::uint32_t probability) { return code(bit, probability); }
    /// `count` <= 16 bits that are as likely as not.
    std::uint32_t code_raw(std::uint32_t bits, unsigned count) {
        range_ >>= count;
        low_ += std::uint64_t{range_} * bits;
        normalize();
        return bits;
    }
    /// After the last bit.
    void finish() {
        for (unsigned byte = 0; byte < 5; ++byte)
            shift();
        out_->erase(out_->begin() + static_cast<std::ptrdiff_t>(begin_));  // held first of all, and no carry reached it
    }

private:
    void normalize() {
        if (range_ >= kSmallestRange) [[likely]]
            return;
        do {
            range_ <<= 8;
            shift();
        } while (range_ < kSmallestRange);
    }
    /// Lets the top byte of low go, or keeps it back while a carry could still change it: 0xff.
    void shift() {
        constexpr std::uint64_t kOne = std::uint64_t{1} << 32;
        if (low_ < 0xff000000 || low_ >= kOne) {
            const auto carry = static_cast<std::uint8_t>(low_ >> 32);
            out_->push_back(static_cast<std::byte>(held_ + carry));
            for (; pending_ > 1; --pending_)
                out_->push_back(static_cast<std::byte>(0xff + carry));
            held_ = static_cast<std::uint8_t>(low_ >> 24);
            pending_ = 0;
        }
        ++pending_;
        low_ = (low_ & 0x00ffffff) << 8;
    }

    std::vector<std::byte>* out_;
    std::size_t begin_;
    std::uint64_t low_ = 0;  ///< bit 32 is a carry
    std::uint32_t range_ = 0xffffffff;
    std::uint8_t held_ = 0;    ///< the last byte but for a carry
    std::size_t pending_ = 1;  ///< held_, and the bytes 0xff behind it
};

/// Reads as if zeros without end followed `bytes`, which are borrowed.
class RangeDecoder {
public:
    explicit RangeDecoder(std::span<const std::byte> bytes) : bytes_(bytes) {
        for (unsigned byte = 0; byte < 4; ++byte)
            take();
    }

    bool code(bool /*bit*/, std::uint32_t probability) {
        const std::uint32_t ones = (range_ >> kProbabilityBits) * probability;
        if (offset_ < ones) {
            range_ = ones;
            normalize();
            return true;
        }
        range_ -= ones;
        offset_ -= ones;
        normalize();
        return false;
    }
    /// The same without a branch on the bit.
    bool code_unguessed(bool /*bit*/, std::uint32_t probability) {
        const std::uint32_t ones = (range_ >> kProbabilityBits) * probability;
        const std::uint32_t if_zero = 0U - static_cast<std::uint32_t>(offset_ >= ones);
        offset_ -= if_zero & ones;
        range_ = ones + (if_zero & (range_ - 2 * ones));
        normalize();
        return if_zero == 0;
    }
    std::uint32_t code_raw(std::uint32_t /*bits*/, unsigned count) {
        range_ >>= count;
        const std::uint32_t most = (1U << count) - 1;
        const std::uint32_t found = offset_ / range_;
        const std::uint32_t bits = found < most ? found : most;
        offset_ -= bits * range_;
        normalize();
        return bits;
    }
    /// Whether it has read beyond the bytes, which no encoder's bits make it do.
    bool overran() const { return position_ > bytes_.size(); }
    /// After the last bit: whether the bytes end as an encoder of these bits ends them.
    bool at_end() const { return position_ == bytes_.size() && offset_ == 0; }

private:
    void take() {
        const auto next = position_ < bytes_.size() ? std::to_integer<std::uint32_t>(bytes_[position_]) : 0;
        offset_ = offset_ << 8 | next;
        ++position_;
    }
    void normalize() {
        if (range_ >= kSmallestRange) [[likely]]
            return;
        do {
            take();
            range_ <<= 8;
        } while (range_ < kSmallestRange);
    }

    std::span<const std::byte> bytes_;
    std::size_t position_ = 0;
    std::uint32_t offset_ = 0;  ///< of what was read in the interval
    std::uint32_t range_ = 0xffffffff;
};

}  // namespace dither::detail
