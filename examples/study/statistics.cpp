#include "examples/study/statistics.hpp"

#include <algorithm>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <numeric>
#include <utility>

namespace dither {
namespace {

const boost::math::normal kNormal;

std::vector<double> resampled_means(std::span<const double> values, const StreamKey& key) {
    Stream stream(key);
    const auto count = static_cast<std::uint32_t>(values.size());
    std::vector<double> means(kResamples);
    for (double& mean : means) {
        double sum = 0;
        for (std::uint32_t i = 0; i < count; ++i)
            sum += values[stream.below(count)];
        mean = sum / count;
    }
    std::ranges::sort(means);
    return means;
}

/// a = sum d^3 / (6 (sum d^2)^(3/2)), d the jackknife's deviations: of the mean, (x - mean) / (n - 1), up to a factor.
double acceleration(std::span<const double> values, double centre) {
    double squares = 0;
    double cubes = 0;
    for (const double value : values) {
        const double d = value - centre;
        squares += d * d;
        cubes += d * d * d;
    }
    return squares > 0 ? cubes / (6 * std::pow(squares, 1.5)) : 0;
}

/// P(Z <= z0 + (z0 + z) / (1 - a (z0 + z))) for the z of `tail`: where BCa reads the resamples' quantile.
double corrected(double tail, double z0, double a) {
    const double z = z0 + boost::math::quantile(kNormal, tail);
    const double denominator = 1 - a * z;
    return denominator > 0 ? boost::math::cdf(kNormal, z0 + z / denominator) : tail;
}

/// |d| in ascending order, with its sign and twice its rank, which is an integer where ties share their mean.
struct Ranked {
    double magnitude;
    bool positive;
    std::size_t twice_rank;
};

std::vector<Ranked> rank(std::span<const double> differences) {
    std::vector<Ranked> ranked;
    for (const double d : differences)
        if (d != 0)
            ranked.push_back({std::abs(d), d > 0, 0});
    std::ranges::sort(ranked, {}, &Ranked::magnitude);
    for (std::size_t first = 0; first < ranked.size();) {
        std::size_t end = first;
        while (end < ranked.size() && ranked[end].magnitude == ranked[first].magnitude)
            ++end;
        for (std::size_t i = first; i < end; ++i)
            ranked[i].twice_rank = first + 1 + end;  // 2 * mean of first + 1 .. end
        first = end;
    }
    return ranked;
}

/// The distribution of the sum of the positive ranks: each sign is as likely as the other one.
double exact_p(std::span<const Ranked> ranked, std::size_t smaller) {
    std::vector<double> chance{1};
    for (const Ranked& r : ranked) {
        std::vector<double> next(chance.size() + r.twice_rank, 0);
        for (std::size_t sum = 0; sum < chance.size(); ++sum) {
            next[sum] += chance[sum] / 2;
            next[sum + r.twice_rank] += chance[sum] / 2;
        }
        chance = std::move(next);
    }
    const auto end = chance.begin() + static_cast<std::ptrdiff_t>(smaller) + 1;
    return std::min(1.0, 2 * std::accumulate(chance.begin(), end, 0.0));
}

/// Mean and variance of the sum of the positive ranks r are sum r / 2 and sum r^2 / 4; mean ranks see to the ties.
double approximate_p(std::span<const Ranked> ranked, std::size_t smaller) {
    double sum = 0;
    double squares = 0;
    for (const Ranked& r : ranked) {
        const double value = static_cast<double>(r.twice_rank) / 2;
        sum += value;
        squares += value * value;
    }
    const double z = (static_cast<double>(smaller) / 2 - sum / 2) / std::sqrt(squares / 4);
    return std::min(1.0, 2 * boost::math::cdf(kNormal, z));
}

/// The rank of each value from 1; equal ones share their mean.
std::vector<double> mean_ranks(std::span<const double> values) {
    std::vector<double> sorted(values.begin(), values.end());
    std::ranges::sort(sorted);
    std::vector<double> ranks;
    for (const double value : values) {
        const auto equal = std::ranges::equal_range(sorted, value);
        ranks.push_back(static_cast<double>(equal.begin() - sorted.begin() + 1 + (equal.end() - sorted.begin())) / 2);
    }
    return ranks;
}

}  // namespace

double mean(std::span<const double> values) {
    const auto [low, high] = std::ranges::minmax(values);
    const double sum = std::accumulate(values.begin(), values.end(), 0.0);
    return std::clamp(sum / static_cast<double>(values.size()), low, high);  // exact where all are the same
}

std::optional<double> deviation(std::span<const double> values) {
    if (values.size() < 2)
        return std::nullopt;
    const double centre = mean(values);
    double squares = 0;
    for (const double value : values)
        squares += (value - centre) * (value - centre);
    return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

double quantile(std::span<const double> sorted, double probability) {
    const double position = probability * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const double fraction = position - static_cast<double>(below);
    return below + 1 < sorted.size() ? sorted[below] + fraction * (sorted[below + 1] - sorted[below]) : sorted.back();
}

std::optional<Interval> bootstrap_interval(std::span<const double> values, const StreamKey& key) {
    const auto spread = deviation(values);
    if (!spread)
        return std::nullopt;
    constexpr double kTail = (1 - kConfidence) / 2;
    const double centre = mean(values);
    if (*spread == 0)
        return Interval{centre, centre};
    const std::vector<double> means = resampled_means(values, key);
    // Resamples that hit the mean exactly, of few or equal values, count half on either side.
    const auto equal = std::ranges::equal_range(means, centre);
    const auto below = static_cast<double>(equal.begin() - means.begin());
    const double share = (below + static_cast<double>(equal.size()) / 2) / static_cast<double>(means.size());
    if (share <= 0 || share >= 1)
        return Interval{quantile(means, kTail), quantile(means, 1 - kTail)};
    const double z0 = boost::math::quantile(kNormal, share);
    const double a = acceleration(values, centre);
    return Interval{quantile(means, corrected(kTail, z0, a)), quantile(means, corrected(1 - kTail, z0, a))};
}

std::optional<double> paired_t_test(std::span<const double> differences) {
    const auto spread = deviation(differences);
    if (!spread)
        return std::nullopt;
    const double centre = mean(differences);
    if (*spread == 0)
        return centre == 0 ? 1.0 : 0.0;
    const auto count = static_cast<double>(differences.size());
    const double t = std::abs(centre) / (*spread / std::sqrt(count));
    return 2 * boost::math::cdf(boost::math::complement(boost::math::students_t(count - 1), t));
}

std::optional<double> wilcoxon_test(std::span<const double> differences) {
    if (differences.empty())
        return std::nullopt;
    const std::vector<Ranked> ranked = rank(differences);
    std::size_t positive = 0;
    std::size_t negative = 0;
    for (const Ranked& r : ranked)
        (r.positive ? positive : negative) += r.twice_rank;
    if (ranked.empty())
        return 1;
    const std::size_t smaller = std::min(positive, negative);
    return ranked.size() <= kExactWilcoxon ? exact_p(ranked, smaller) : approximate_p(ranked, smaller);
}

std::vector<double> holm(std::span<const double> p_values) {
    std::vector<std::size_t> order(p_values.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, {}, [&](std::size_t i) { return p_values[i]; });
    std::vector<double> adjusted(p_values.size());
    double largest = 0;
    for (std::size_t k = 0; k < order.size(); ++k) {
        largest = std::max(largest, p_values[order[k]] * static_cast<double>(order.size() - k));
        adjusted[order[k]] = std::min(1.0, largest);
    }
    return adjusted;
}

std::optional<double> cohens_dz(std::span<const double> differences) {
    const auto spread = deviation(differences);
    return spread && *spread > 0 ? std::optional(mean(differences) / *spread) : std::nullopt;
}

std::optional<double> rank_correlation(std::span<const Point> points) {
    std::vector<double> xs, ys;
    for (const Point& p : points) {
        xs.push_back(p.x);
        ys.push_back(p.y);
    }
    const std::vector<double> x = mean_ranks(xs), y = mean_ranks(ys);
    const double middle = static_cast<double>(points.size() + 1) / 2;
    double xx = 0, yy = 0, xy = 0;
    for (std::size_t i = 0; i < points.size(); ++i) {
        xx += (x[i] - middle) * (x[i] - middle);
        yy += (y[i] - middle) * (y[i] - middle);
        xy += (x[i] - middle) * (y[i] - middle);
    }
    return xx > 0 && yy > 0 ? std::optional(xy / std::sqrt(xx * yy)) : std::nullopt;
}

std::vector<bool> pareto_front(std::span<const Point> points, bool higher_x, bool higher_y) {
    const auto better = [](double a, double b, bool higher) { return higher ? a > b : a < b; };
    const auto beats = [&](const Point& a, const Point& b) {
        return !better(b.x, a.x, higher_x) && !better(b.y, a.y, higher_y) &&
               (better(a.x, b.x, higher_x) || better(a.y, b.y, higher_y));
    };
    std::vector<bool> front;
    for (const Point& point : points)
        front.push_back(std::ranges::none_of(points, [&](const Point& other) { return beats(other, point); }));
    return front;
}

}  // namespace dither
