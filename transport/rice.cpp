#include "transport/detail/rice.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace dither::detail {
namespace {

constexpr unsigned kByte = 8;

/// Bits become bytes as soon as there are enough of them.
class BitAppender {
public:
    explicit BitAppender(std::vector<std::byte>& out) : out_(out) {}

    /// `count` <= 32 bits; the others are zero.
    void put(std::uint64_t bits, unsigned count) {
        pending_ |= bits << filled_;
        for (filled_ += count; filled_ >= kByte; filled_ -= kByte, pending_ >>= kByte)
            out_.push_back(static_cast<std::byte>(pending_));
    }
    void finish() {
        if (filled_ > 0)
            out_.push_back(static_cast<std::byte>(pending_));
    }

private:
    std::vector<std::byte>& out_;
    std::uint64_t pending_ = 0;
    unsigned filled_ = 0;  // < kByte
};

std::uint64_t rice_size(std::span<const std::uint32_t> values, unsigned rice_bits) {
    std::uint64_t size = values.size() * (rice_bits + 1);
    for (const std::uint32_t value : values)
        size += value >> rice_bits;
    return size;
}

}  // namespace

unsigned best_rice_bits(std::span<const std::uint32_t> values) {
    // The size is convex in b: going on while it falls finds the least.
    std::uint64_t size = rice_size(values, 0);
    for (unsigned rice_bits = 1; rice_bits <= kMaxRiceBits; ++rice_bits) {
        const std::uint64_t next = rice_size(values, rice_bits);
        if (next >= size)
            return rice_bits - 1;
        size = next;
    }
    return kMaxRiceBits;
}

void append_rice(std::span<const std::uint32_t> values, unsigned rice_bits, std::vector<std::byte>& out) {
    require(rice_bits <= kMaxRiceBits, "a Rice code with {} lower bits, expected at most {}", rice_bits, kMaxRiceBits);
    BitAppender appender(out);
    for (const std::uint32_t value : values) {
        for (std::uint32_t zeros = value >> rice_bits; zeros > 0;) {
            const std::uint32_t now = std::min(zeros, 32U);
            appender.put(0, now);
            zeros -= now;
        }
        appender.put(1, 1);
        appender.put(value & ((std::uint64_t{1} << rice_bits) - 1), rice_bits);
    }
    appender.finish();
}

std::optional<std::uint32_t> RiceReader::next() {
    std::uint64_t quotient = 0;
    while (pending_ == 0) {
        quotient += std::exchange(filled_, 0);
        if (!refill(1))
            return std::nullopt;
    }
    const auto zeros = static_cast<unsigned>(std::countr_zero(pending_));
    quotient += zeros;
    pending_ = pending_ >> zeros >> 1;
    filled_ -= zeros + 1;
    if (quotient >> (32 - rice_bits_) != 0 || !refill(rice_bits_))
        return std::nullopt;
    const auto lower = static_cast<std::uint32_t>(pending_ & ((std::uint64_t{1} << rice_bits_) - 1));
    pending_ >>= rice_bits_;
    filled_ -= rice_bits_;
    return static_cast<std::uint32_t>(quotient << rice_bits_) | lower;
}

std::optional<std::size_t> RiceReader::finish() const {
    const unsigned padding = filled_ % kByte;
    if ((pending_ & ((1U << padding) - 1)) != 0)
        return std::nullopt;
    return position_ - filled_ / kByte;
}

bool RiceReader::refill(unsigned count) {
    for (; filled_ < count; filled_ += kByte) {
        if (position_ == bytes_.size())
            return false;
        pending_ |= std::to_integer<std::uint64_t>(bytes_[position_++]) << filled_;
    }
    return true;
}

}  // namespace dither::detail
