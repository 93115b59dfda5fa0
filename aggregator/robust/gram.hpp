// Inner products of a cohort's updates: all that rules need to know of updates that they only weigh.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dither {

/// A float each parameter.
using UpdateRow = std::span<const float>;

/// Symmetric: (i, j) is the inner product of updates i and j.
class Gram {
public:
    explicit Gram(std::size_t size) : size_(size), products_(size * size) {}

    std::size_t size() const { return size_; }
    double& operator()(std::size_t i, std::size_t j) { return products_[i * size_ + j]; }
    double operator()(std::size_t i, std::size_t j) const { return products_[i * size_ + j]; }
    /// |x_i - x_j|^2, at least 0.
    double squared_distance(std::size_t i, std::size_t j) const;
    /// |x_i - v| for each i, where v = sum of coefficient_k x_k.
    std::vector<double> distances(std::span<const double> coefficients) const;

private:
    std::size_t size_;
    std::vector<double> products_;  ///< [size, size]
};

/// Of rows of one size. In double, where products of floats are exact, and summed in one fixed order: n^2 / 2 products
/// a parameter.
Gram gram_of(std::span<const UpdateRow> rows);

/// Of each update the other ones, the nearest first, and of equally near ones the lower index.
using Neighbours = std::vector<std::vector<std::uint32_t>>;
Neighbours neighbours_of(const Gram& gram);

}  // namespace dither
