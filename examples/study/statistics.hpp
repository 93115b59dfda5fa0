// What a study says of samples: intervals, paired tests and effect sizes.
//
// Sources: Student, "The probable error of a mean", Biometrika 1908 (paired t test); Wilcoxon, "Individual comparisons
// by ranking methods", Biometrics 1945; Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
// Journal of Statistics 1979; Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979,
// and "Better bootstrap confidence intervals", JASA 1987 (BCa); Cohen, "Statistical power analysis for the behavioral
// sciences", 1988 (d_z).
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "core/rng.hpp"

namespace dither {

struct Interval {
    double low = 0;
    double high = 0;
};

inline constexpr double kConfidence = 0.95;
inline constexpr std::size_t kResamples = 10'000;
/// Above so many differences Wilcoxon's test takes the normal approximation.
inline constexpr std::size_t kExactWilcoxon = 60;

/// All of these are pure functions of finite numbers.
double mean(std::span<const double> values);                      ///< of one value or more
std::optional<double> deviation(std::span<const double> values);  ///< with n - 1; nothing of fewer than two
/// The `probability` quantile by linear interpolation between order statistics (type 7 of Hyndman and Fan 1996);
/// `sorted` has a value or more.
double quantile(std::span<const double> sorted, double probability);

/// 95 % for the mean: the bias-corrected and accelerated bootstrap of kResamples resamples, the percentile bootstrap
/// where that is not defined (all resamples on one side of the mean). Nothing of fewer than two values.
std::optional<Interval> bootstrap_interval(std::span<const double> values, const StreamKey& key);

/// Two-sided p of the hypothesis that the differences have the mean 0. Nothing of fewer than two; of differences that
/// are all the same 1 if they are 0, else 0.
std::optional<double> paired_t_test(std::span<const double> differences);

/// Two-sided p of the hypothesis that the differences lie symmetrically around 0. Zeros are left out, ties share their
/// mean rank. Exact up to kExactWilcoxon, given the ties; above, normal with the correction for ties. Nothing of no
/// differences; 1 if all are 0.
std::optional<double> wilcoxon_test(std::span<const double> differences);

/// Holm's adjusted p values: reject those below a level, and the chance of any false rejection is below it.
std::vector<double> holm(std::span<const double> p_values);

/// Mean over deviation of the differences; nothing where there is no deviation.
std::optional<double> cohens_dz(std::span<const double> differences);

struct Point {
    double x = 0;
    double y = 0;
};
/// Spearman's: the correlation of the ranks, ties sharing their mean. Nothing where either side is all the same.
std::optional<double> rank_correlation(std::span<const Point> points);
/// Which points no other one beats: as good in both directions and better in one.
std::vector<bool> pareto_front(std::span<const Point> points, bool higher_x, bool higher_y);

}  // namespace dither
