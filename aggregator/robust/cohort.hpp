// A round's updates as a rule sees them.
#pragma once

#include "aggregator/robust/columns.hpp"
#include "aggregator/robust/gram.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace dither {

/// At least one update, in an order that does not depend on their arrival; of `mixed` ones each is the mean of those
/// that are nearest to it. That takes no memory of its own: updates are mixed where they are read. Borrows the rows.
/// Not thread-safe.
class Cohort {
public:
    /// weights: of each in a mean that trusts them, which robust rules do not.
    Cohort(std::vector<UpdateRow> rows, std::vector<std::uint64_t> weights)
        : rows_(std::move(rows)), weights_(std::move(weights)) {}

    /// Nearest-neighbour mixing: y_i = the mean of x_i and the n - faulty - 1 updates nearest to it (Allouah,
    /// Farhadkhani, Guerraoui, Gupta, Pinot, Stephan, "Fixing by mixing: a recipe for optimal Byzantine ML under
    /// heterogeneity", AISTATS 2023, algorithm 2). Once; faulty < size().
    void mix(std::size_t faulty);

    std::size_t size() const { return rows_.size(); }
    std::size_t parameters() const { return rows_.front().size(); }
    std::span<const std::uint64_t> weights() const { return weights_; }
    /// Of the updates as they are now; computed when it is first asked for.
    const Gram& gram();
    /// out[j] = sum of coefficient_i * y_i[j]; those with a coefficient of 0 are not looked at.
    void combine(std::span<const double> coefficients, std::span<float> out) const;
    /// out[j] = what `reduce` makes of the chosen updates' values of parameter j, sorted.
    using Reduce = std::function<Columns::Doubles(const Columns& sorted)>;
    void reduce(std::span<const std::uint32_t> chosen, const Reduce& reduce, std::span<float> out) const;

private:
    /// Of the rows, from those of the updates that are made of them.
    std::vector<double> of_rows(std::span<const double> coefficients) const;
    /// y_i[first .. first + out.size()).
    void read(std::size_t i, std::size_t first, std::span<float> out) const;

    std::vector<UpdateRow> rows_;
    std::vector<std::uint64_t> weights_;
    Neighbours mixture_;  ///< whose mean each update is; empty: of itself alone
    std::optional<Gram> gram_;
};

/// 0 .. count - 1.
std::vector<std::uint32_t> everyone(std::size_t count);

}  // namespace dither
