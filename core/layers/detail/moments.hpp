// Statistics of channels whose rows come in blocks. Private to core/layers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dither::norm {

/// Mean and variance of each channel in fp64 (the pairwise update of Chan, Golub, LeVeque, "Algorithms for computing
/// the sample variance", 1983).
class Moments {
public:
    explicit Moments(std::size_t channels) : means_(channels), squares_(channels) {}

    void clear() {
        rows_ = 0;
        std::ranges::fill(means_, 0.0);
        std::ranges::fill(squares_, 0.0);
    }

    void add(std::int64_t rows, const float* means, const float* squares) {
        const auto before = static_cast<double>(rows_);
        const auto added = static_cast<double>(rows);
        const double share = added / (before + added);
        for (std::size_t c = 0; c < means_.size(); ++c) {
            const double difference = static_cast<double>(means[c]) - means_[c];
            means_[c] += difference * share;
            squares_[c] += static_cast<double>(squares[c]) + difference * difference * before * share;
        }
        rows_ += rows;
    }

    /// Gives each run of `size` channels its common mean and sum of squares.
    void join(std::size_t size) {
        for (std::size_t begin = 0; size > 1 && begin < means_.size(); begin += size) {
            const std::span<double> means = std::span(means_).subspan(begin, size);
            const std::span<double> squares = std::span(squares_).subspan(begin, size);
            double mean = 0;
            for (const double value : means)
                mean += value / static_cast<double>(size);
            double square = 0;
            for (std::size_t c = 0; c < size; ++c) {
                const double difference = means[c] - mean;
                square += squares[c] + difference * difference * static_cast<double>(rows_);
            }
            std::ranges::fill(means, mean);
            std::ranges::fill(squares, square / static_cast<double>(size));
        }
    }

    std::int64_t rows() const { return rows_; }
    double mean(std::size_t c) const { return means_[c]; }
    double square(std::size_t c) const { return squares_[c]; }
    double variance(std::size_t c) const { return squares_[c] / static_cast<double>(rows_); }

private:
    std::int64_t rows_ = 0;
    std::vector<double> means_;
    std::vector<double> squares_;  ///< sums of squared deviations
};

}  // namespace dither::norm
