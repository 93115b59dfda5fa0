// Golomb codes with a power of two as parameter (Golomb, "Run-length encodings", 1966; Rice and Plaunt, 1971), for
// numbers that are geometrically distributed, such as the gaps between the few that are chosen of many:
//
//     value >> b in unary, that many zeros and a one; then the lower b bits of the value, the lowest first
//
// in a bit string whose lowest bit of a byte comes first and whose last byte is filled up with zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace dither::detail {

inline constexpr unsigned kMaxRiceBits = 31;

/// The parameter b that makes the codes of `values` shortest, the smaller of equals.
unsigned best_rice_bits(std::span<const std::uint32_t> values);

/// Appends the codes of `values` to `out`.
void append_rice(std::span<const std::uint32_t> values, unsigned rice_bits, std::vector<std::byte>& out);

/// Reads codes from the beginning of `bytes`, which are borrowed.
class RiceReader {
public:
    RiceReader(std::span<const std::byte> bytes, unsigned rice_bits) : bytes_(bytes), rice_bits_(rice_bits) {}

    /// The next value; nothing where the bytes end before it does, or if it is 2^32 or more.
    std::optional<std::uint32_t> next();
    /// After the last value: the bytes read; nothing unless the last one is filled up with zeros.
    std::optional<std::size_t> finish() const;

private:
    /// Reads on until `count` <= 32 bits are pending; false if there are not so many.
    bool refill(unsigned count);

    std::span<const std::byte> bytes_;
    unsigned rice_bits_;
    std::size_t position_ = 0;   ///< of the next byte
    std::uint64_t pending_ = 0;  ///< bits read ahead, zeros above them
    unsigned filled_ = 0;        ///< how many they are
};

}  // namespace dither::detail
