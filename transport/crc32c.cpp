#include "transport/detail/crc32c.hpp"

#include "core/little_endian.hpp"

#include <array>

namespace dither::detail {
namespace {

constexpr std::uint32_t kReflectedPolynomial = 0x82F63B78;  // 0x1EDC6F41, its lowest bit first
constexpr std::size_t kBytesAStep = 8;

/// tables[k][b]: what byte b adds to the remainder when k more bytes have followed it.
using Tables = std::array<std::array<std::uint32_t, 256>, kBytesAStep>;

constexpr Tables make_tables() {
    Tables tables{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t remainder = byte;
        for (int bit = 0; bit < 8; ++bit)
            remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? kReflectedPolynomial : 0);
        tables[0][byte] = remainder;
    }
    for (std::size_t k = 1; k < kBytesAStep; ++k)
        for (std::size_t byte = 0; byte < 256; ++byte)
            tables[k][byte] = (tables[k - 1][byte] >> 8) ^ tables[0][tables[k - 1][byte] & 0xFF];
    return tables;
}

constexpr Tables kTables = make_tables();

std::uint32_t after_step(std::uint32_t remainder, const std::byte* bytes) {
    const std::uint64_t word = load_little<std::uint64_t>(bytes) ^ remainder;
    std::uint32_t next = 0;
    for (std::size_t i = 0; i < kBytesAStep; ++i)
        next ^= kTables[kBytesAStep - 1 - i][(word >> (8 * i)) & 0xFF];
    return next;
}

/// Polynomials modulo the CRC's: the highest bit is the coefficient of x^0.
constexpr std::uint32_t kOne = 0x80000000;
constexpr std::uint32_t kByteShift = kOne >> 8;  ///< x^8

std::uint32_t product(std::uint32_t a, std::uint32_t b) {
    std::uint32_t sum = 0;
    for (std::uint32_t coefficient = kOne; coefficient != 0; coefficient >>= 1) {
        if ((a & coefficient) != 0)
            sum ^= b;
        b = (b >> 1) ^ ((b & 1) != 0 ? kReflectedPolynomial : 0);  // times x
    }
    return sum;
}

std::uint32_t power(std::uint32_t base, std::uint64_t exponent) {
    std::uint32_t result = kOne;
    for (; exponent != 0; exponent >>= 1) {
        if ((exponent & 1) != 0)
            result = product(result, base);
        base = product(base, base);
    }
    return result;
}

#if defined(__x86_64__)
#define DITHER_CRC32C_INSTRUCTION
[[gnu::target("sse4.2")]] std::uint32_t by_instruction(std::span<const std::byte> bytes) {
    std::uint64_t remainder = 0xFFFFFFFF;
    for (; bytes.size() >= kBytesAStep; bytes = bytes.subspan(kBytesAStep))
        remainder = __builtin_ia32_crc32di(remainder, load_little<std::uint64_t>(bytes.data()));
    auto rest = static_cast<std::uint32_t>(remainder);
    for (const std::byte byte : bytes)
        rest = __builtin_ia32_crc32qi(rest, static_cast<std::uint8_t>(byte));
    return ~rest;
}
#endif

}  // namespace

std::uint32_t crc32c_by_tables(std::span<const std::byte> bytes) {
    std::uint32_t remainder = 0xFFFFFFFF;
    for (; bytes.size() >= kBytesAStep; bytes = bytes.subspan(kBytesAStep))
        remainder = after_step(remainder, bytes.data());
    for (const std::byte byte : bytes)
        remainder = (remainder >> 8) ^ kTables[0][(remainder ^ static_cast<std::uint32_t>(byte)) & 0xFF];
    return ~remainder;
}

std::uint32_t crc32c(std::span<const std::byte> bytes) {
#ifdef DITHER_CRC32C_INSTRUCTION
    static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
    if (has_instruction)
        return by_instruction(bytes);
#endif
    return crc32c_by_tables(bytes);
}

/// The remainder of first * x^(8 n) + second: what the initial value and the final complement add to both cancels.
std::uint32_t crc32c_joined(std::uint32_t first, std::uint32_t second, std::uint64_t second_bytes) {
    return product(power(kByteShift, second_bytes), first) ^ second;
}

}  // namespace dither::detail
