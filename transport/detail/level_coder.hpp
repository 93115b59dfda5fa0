// Codes the levels of a trellis that quantizes a Gaussian: asymmetric numeral systems with static tables (Duda,
// "Asymmetric numeral systems", 2009; the range variant with 32 bits of state and 16 bits at a time).
//
// The reproduction of a Gaussian at the rate-distortion bound is a Gaussian, so that level n has, among the levels of
// its parity, a probability in proportion to exp(-beta n^2): one number describes both tables. A grade g stands for
//
//     beta = kFineness 4^(-g / 32)          about the right one at g / 32 bits a level
//
// Where there would be more than some dozens of levels, the lowest bits of (n - parity) / 2 are nearly uniform: they go
// as they are.
#pragma once

#include "transport/detail/trellis.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dither::detail {

/// Squared spacing of levels over that of a scalar's cells at the same rate: measured, flat around its best value.
inline constexpr double kFineness = 2.134;
inline constexpr unsigned kGradesPerBit = 32;
inline constexpr unsigned kLowestGrade = 13;
inline constexpr unsigned kHighestGrade = 255;

/// To about seven digits, the same on every machine.
double power_of_four(double exponent);

/// Immutable; the same on every machine.
class LevelCoder {
public:
    /// grade in kLowestGrade .. kHighestGrade.
    explicit LevelCoder(unsigned grade);

    /// Levels of magnitude up to limit() + 1 can be coded: all that are nearest, in their subset, to a position below
    /// limit().
    std::int32_t limit() const { return limit_; }
    /// log(Z1 / Z0): how much less probable an odd level is than an even one of the same magnitude.
    double odd_information() const { return odd_information_; }

    /// Appends the code of a path of the trellis.
    void encode(std::span<const std::int16_t> levels, std::vector<std::byte>& out) const;
    /// Decodes levels.size() levels of a path and returns the bytes that they took; 0 if `in` is no such code.
    std::size_t decode(std::span<const std::byte> in, std::span<float> levels) const;

private:
    static constexpr unsigned kPrecision = 12;
    static constexpr std::uint32_t kTotal = 1U << kPrecision;
    struct Symbol {
        std::uint16_t start = 0;
        std::uint16_t frequency = 0;
    };
    /// The levels of one parity.
    struct Table {
        std::int32_t first = 0;  ///< what symbol 0 stands for: (n - parity) / 2 without its raw bits
        std::vector<Symbol> symbols;
        std::array<std::uint8_t, kTotal> symbol_at{};
    };
    void fill(Table& table, unsigned parity, std::span<const double> weights);
    void encode_symbols(std::span<const std::int16_t> levels, std::vector<std::byte>& out) const;

    std::int32_t limit_ = 0;
    unsigned raw_bits_ = 0;
    double odd_information_ = 0;
    std::array<Table, 2> tables_;
};

}  // namespace dither::detail
