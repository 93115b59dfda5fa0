#include "aggregator/robust/cohort.hpp"

#include "aggregator/robust/detail/add_scaled.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <numeric>

namespace dither {

namespace {

constexpr std::size_t kWidth = Columns::kWidth;

/// Calls work(first, count) for all parameters, in order.
template <typename Work>
void for_each_block(std::size_t parameters, const Work& work) {
    for (std::size_t first = 0; first < parameters; first += kWidth)
        work(first, std::min(kWidth, parameters - first));
}

void write(const Columns::Doubles& values, double factor, std::span<float> out) {
    for (std::size_t j = 0; j < out.size(); ++j)
        out[j] = static_cast<float>(factor * values[j]);
}

/// Of y = M x, where row i of M is 1 / m for the m updates that i mixes: G_y = M G M^T.
Gram mixed(const Gram& gram, const Neighbours& mixture) {
    const std::size_t n = gram.size();
    const auto m = static_cast<double>(mixture.front().size());
    Gram half(n), whole(n);
    for (std::size_t i = 0; i < n; ++i)
        for (const std::uint32_t k : mixture[i])
            for (std::size_t j = 0; j < n; ++j)
                half(i, j) += gram(k, j) / m;
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j <= i; ++j) {
            for (const std::uint32_t k : mixture[j])
                whole(i, j) += half(i, k) / m;
            whole(j, i) = whole(i, j);
        }
    return whole;
}

}  // namespace

void Cohort::mix(std::size_t faulty) {
    require(mixture_.empty() && faulty < size(), "{} updates, {} of them faulty, are mixed once", size(), faulty);
    mixture_ = neighbours_of(gram());
    for (std::uint32_t i = 0; i < size(); ++i) {
        mixture_[i].resize(size() - faulty - 1);
        mixture_[i].push_back(i);
        std::ranges::sort(mixture_[i]);  // whoever mixes the same updates gets the same sum
    }
    gram_ = mixed(*gram_, mixture_);
}

const Gram& Cohort::gram() {
    if (!gram_)
        gram_ = gram_of(rows_);
    return *gram_;
}

std::vector<double> Cohort::of_rows(std::span<const double> coefficients) const {
    if (mixture_.empty())
        return {coefficients.begin(), coefficients.end()};
    std::vector<double> shares(size());
    for (std::size_t i = 0; i < size(); ++i)
        for (const std::uint32_t k : mixture_[i])
            shares[k] += coefficients[i] / static_cast<double>(mixture_[i].size());
    return shares;
}

void Cohort::combine(std::span<const double> coefficients, std::span<float> out) const {
    const std::vector<double> shares = of_rows(coefficients);
    for_each_block(parameters(), [&](std::size_t first, std::size_t count) {
        Columns::Doubles sums{};
        for (std::size_t i = 0; i < size(); ++i)
            if (shares[i] != 0)
                add_scaled(sums.data(), shares[i], &rows_[i][first], count);
        write(sums, 1, out.subspan(first, count));
    });
}

void Cohort::read(std::size_t i, std::size_t first, std::span<float> out) const {
    if (mixture_.empty())
        return void(std::ranges::copy(rows_[i].subspan(first, out.size()), out.begin()));
    Columns::Doubles sums{};
    for (const std::uint32_t k : mixture_[i])
        add_scaled(sums.data(), 1, &rows_[k][first], out.size());
    write(sums, 1 / static_cast<double>(mixture_[i].size()), out);
}

void Cohort::reduce(std::span<const std::uint32_t> chosen, const Reduce& reduce, std::span<float> out) const {
    Columns columns(chosen.size());
    for_each_block(parameters(), [&](std::size_t first, std::size_t count) {
        for (std::size_t row = 0; row < chosen.size(); ++row)
            read(chosen[row], first, columns.row(row).first(count));
        columns.sort();
        write(reduce(columns), 1, out.subspan(first, count));
    });
}

std::vector<std::uint32_t> everyone(std::size_t count) {
    std::vector<std::uint32_t> indices(count);
    std::iota(indices.begin(), indices.end(), 0U);
    return indices;
}

}  // namespace dither
