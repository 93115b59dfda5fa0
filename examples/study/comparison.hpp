// A metric of every method, and each method against the baseline, seed by seed.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "examples/study/results.hpp"
#include "examples/study/statistics.hpp"

namespace dither {

/// A method less the baseline at the same point of the grid, over the seeds in which both have a value.
struct Difference {
    std::size_t pairs = 0;
    double mean = 0;
    std::optional<Interval> interval;
    std::optional<double> t_test;
    std::optional<double> t_test_holm;  ///< corrected for all comparisons of the metric
    std::optional<double> wilcoxon;
    std::optional<double> dz;
};

struct MethodSummary {
    std::size_t method = 0;
    std::size_t point = 0;
    std::size_t failed = 0;   ///< rows
    std::size_t missing = 0;  ///< rows that were not run or have no value
    std::vector<double> values;
    std::optional<double> mean;
    std::optional<double> deviation;
    std::optional<Interval> interval;
    std::optional<Difference> difference;  ///< nothing for the baseline, and where there is no pair
};

/// By point and method. Resampling is keyed by the names of study and metric: the same results give the same intervals,
/// whatever else the study has.
std::vector<MethodSummary> compare(const Study& study, std::size_t metric, const std::vector<Result>& results);

/// "alpha = 0.1" of federation.partition.alpha.
std::string short_text(const GridValue& value);
/// "alpha = 0.1, bits = 4" of the grid's keys without their tables; empty without a grid.
std::string point_label(const Study& study, std::size_t point);

}  // namespace dither
