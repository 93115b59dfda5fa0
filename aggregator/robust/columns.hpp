// A cohort's values of some parameters, sorted for each: where medians and their kin are found.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace dither {

/// kWidth parameters at a time: [rows, kWidth]. All columns go through the same exchanges at once, which the merge
/// exchange of Batcher (1968; Knuth, "The art of computer programming", vol. 3, algorithm 5.2.2 M) makes possible:
/// their order depends on the number of rows alone. About rows * log2(rows)^2 / 4 exchanges.
class Columns {
public:
    static constexpr std::size_t kWidth = 64;

    explicit Columns(std::size_t rows);

    std::size_t rows() const { return rows_; }
    std::span<float, kWidth> row(std::size_t i) { return std::span<float, kWidth>(&values_[i * kWidth], kWidth); }
    std::span<const float, kWidth> row(std::size_t i) const {
        return std::span<const float, kWidth>(&values_[i * kWidth], kWidth);
    }
    /// Each column ascends from row 0 on.
    void sort();

    using Doubles = std::array<double, kWidth>;
    /// Of each column, over rows first .. last - 1, at least one.
    Doubles mean(std::size_t first, std::size_t last) const;
    /// Of sorted columns; of an even number of rows the mean of the middle two.
    Doubles median() const { return mean((rows_ - 1) / 2, rows_ / 2 + 1); }

private:
    std::size_t rows_;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> exchanges_;
    std::vector<float> values_;
};

}  // namespace dither
