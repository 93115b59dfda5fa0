// What readers of numbers share: rows split by the seed, and from numbers and labels to a standardized pair of sets.
#pragma once

#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/tensor.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace dither::detail {

/// The whole text as a finite number.
std::optional<double> parse_number(std::string_view text);

/// Of a file that is not split: indices of its rows.
struct Rows {
    std::vector<std::uint32_t> train;
    std::vector<std::uint32_t> test;
};

/// Shuffled by the seed; the first test_fraction of them, at least one, are the test split. At least 2 rows.
Rows split_rows(std::size_t rows, const DataOptions& options, std::uint32_t seed);

/// Samples as their file has them. Value: float or double.
template <typename Value>
struct Numbers {
    Shape sample;                      ///< [1, ...]; the innermost extent counts the features or channels
    std::vector<Value> values;         ///< [count, ...]
    std::vector<std::int32_t> labels;  ///< [count], 0 .. classes - 1; empty for regression
    std::vector<float> targets;        ///< [count, outputs] for regression, else empty
};

/// Keeps the first options.limit training samples (0 = all) and standardizes both sets, (x - mean) / deviation: each
/// feature or channel by its numbers in options, else in the training set; one whose values are all alike is only
/// centered. For regression `classes` is 0 and `outputs` the width of a row of targets, else both are the classes.
/// Throws InputError where a number is too large for that.
template <typename Value>
DataSplits standardize_splits(Numbers<Value> train, Numbers<Value> test, int classes, int outputs,
                              const DataOptions& options);

}  // namespace dither::detail
