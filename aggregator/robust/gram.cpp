#include "aggregator/robust/gram.hpp"

#include "core/simd.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>

namespace dither {

namespace {

constexpr std::size_t kLanes = 8;     // of a sum, whatever the processor's registers hold
constexpr std::size_t kTogether = 4;  // products with one row, so that its values are loaded once
constexpr std::size_t kBlock = 256;   // parameters of all rows, as doubles, at a time

using Products = std::array<double, kTogether>;

/// Of the block `row` with the kTogether blocks that begin at `others`.
DITHER_CLONES void products_of(const double* row, const double* others, double* products) {
    std::array<std::array<double, kLanes>, kTogether> sums{};
    for (std::size_t j = 0; j < kBlock; j += kLanes)
        for (std::size_t other = 0; other < kTogether; ++other)
            for (std::size_t lane = 0; lane < kLanes; ++lane)
                sums[other][lane] += row[j + lane] * others[other * kBlock + j + lane];
    for (std::size_t other = 0; other < kTogether; ++other) {
        double total = 0;
        for (const double sum : sums[other])
            total += sum;
        products[other] = total;
    }
}

/// The products of the block's rows on and below the diagonal. blocks: [rows rounded up to kTogether, kBlock].
void add_products(std::span<const double> blocks, Gram& gram) {
    Products products{};
    for (std::size_t i = 0; i < gram.size(); ++i)
        for (std::size_t j = 0; j <= i; j += kTogether) {
            products_of(&blocks[i * kBlock], &blocks[j * kBlock], products.data());
            for (std::size_t k = 0; k < kTogether && j + k <= i; ++k)
                gram(i, j + k) += products[k];
        }
}

}  // namespace

double Gram::squared_distance(std::size_t i, std::size_t j) const {
    return std::max(0.0, (*this)(i, i) + (*this)(j, j) - 2 * (*this)(i, j));
}

std::vector<double> Gram::distances(std::span<const double> coefficients) const {
    std::vector<double> with_point(size_);  // the inner products of each x_i with v
    double norm = 0;
    for (std::size_t i = 0; i < size_; ++i) {
        for (std::size_t k = 0; k < size_; ++k)
            with_point[i] += coefficients[k] * (*this)(i, k);
        norm += coefficients[i] * with_point[i];
    }
    for (std::size_t i = 0; i < size_; ++i)
        with_point[i] = std::sqrt(std::max(0.0, norm + (*this)(i, i) - 2 * with_point[i]));
    return with_point;
}

Gram gram_of(std::span<const UpdateRow> rows) {
    Gram gram(rows.size());
    const std::size_t parameters = rows.empty() ? 0 : rows.front().size();
    std::vector<double> blocks((rows.size() + kTogether - 1) / kTogether * kTogether * kBlock);
    for (std::size_t first = 0; first < parameters; first += kBlock) {
        const std::size_t count = std::min(kBlock, parameters - first);
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const auto end = std::ranges::copy(rows[i].subspan(first, count), &blocks[i * kBlock]).out;
            std::fill_n(end, kBlock - count, 0.0);
        }
        add_products(blocks, gram);
    }
    for (std::size_t i = 0; i < rows.size(); ++i)
        for (std::size_t j = i + 1; j < rows.size(); ++j)
            gram(i, j) = gram(j, i);
    return gram;
}

Neighbours neighbours_of(const Gram& gram) {
    Neighbours neighbours(gram.size());
    for (std::size_t i = 0; i < gram.size(); ++i) {
        for (std::uint32_t j = 0; j < gram.size(); ++j)
            if (j != i)
                neighbours[i].push_back(j);
        std::ranges::sort(neighbours[i], {},
                          [&](std::uint32_t j) { return std::tuple(gram.squared_distance(i, j), j); });
    }
    return neighbours;
}

}  // namespace dither
