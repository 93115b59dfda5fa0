#include "examples/study/statistics.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

using namespace dither;
using doctest::Approx;

namespace {

const std::vector<double> kDifferences{0.31, -0.12, 0.45, 0.27, 0.05, 0.38, -0.02, 0.19};
constexpr StreamKey kKey{.seed = 7, .purpose = Purpose::test};

}  // namespace

TEST_SUITE("examples/study/statistics") {
    TEST_CASE("mean, deviation, paired t test, Wilcoxon's test and d_z are SciPy's") {
        CHECK(mean(kDifferences) == Approx(0.18875));
        CHECK(*deviation(kDifferences) == Approx(0.20152543263816605));
        CHECK(*paired_t_test(kDifferences) == Approx(0.03298366343350446));
        CHECK(*wilcoxon_test(kDifferences) == Approx(0.0546875));
        CHECK(*cohens_dz(kDifferences) == Approx(0.9366063505190233));
    }

    TEST_CASE("Wilcoxon's test leaves zeros out, shares ranks of ties, and counts every assignment of signs") {
        // Ranks 1.5 1.5 4 4 4 6 7; the smaller sum is 5.5: 13 of 128 assignments have at most that.
        CHECK(*wilcoxon_test(std::vector<double>{1, 2, 2, -1, 3, 0, 4, -2}) == Approx(0.203125));
        CHECK(*wilcoxon_test(std::vector<double>{1, 2, 3, 4, 5}) == Approx(0.0625));  // 2 of 32
        CHECK(*wilcoxon_test(std::vector<double>{-1, 1}) == Approx(1));
    }

    TEST_CASE(
        "Wilcoxon's test of many differences is SciPy's normal approximation, and close to the exact one before") {
        std::vector<double> many, few;
        for (int i = 1; i <= 100; ++i)
            many.push_back(i * 37 % 101 / 50.0 - 0.7);
        CHECK(*wilcoxon_test(many) == Approx(4.364117848362227e-06));
        CHECK(*paired_t_test(many) == Approx(5.860611665012703e-07));
        for (std::size_t i = 0; i < kExactWilcoxon; ++i)
            few.push_back(std::sin(static_cast<double>(i)) + 0.2);
        std::vector<double> one_more = few;
        one_more.push_back(0.2);
        CHECK(*wilcoxon_test(few) == Approx(*wilcoxon_test(one_more)).epsilon(0.15));
    }

    TEST_CASE("tests of nothing, one, equal and no differences have an answer or none, never a NaN") {
        const std::vector<double> none, one{0.3}, zeros{0, 0, 0}, equal{0.1, 0.1, 0.1};
        CHECK(!paired_t_test(none));
        CHECK(!paired_t_test(one));
        CHECK(!wilcoxon_test(none));
        CHECK(!deviation(one));
        CHECK(!bootstrap_interval(one, kKey));
        CHECK(*paired_t_test(zeros) == 1);
        CHECK(*wilcoxon_test(zeros) == 1);
        CHECK(!cohens_dz(zeros));
        CHECK(*paired_t_test(equal) == 0);
        CHECK(!cohens_dz(equal));
        CHECK(bootstrap_interval(equal, kKey)->low == 0.1);
        CHECK(bootstrap_interval(equal, kKey)->high == 0.1);
    }

    TEST_CASE("Holm's correction is the hand-computed one, in the order that was given") {
        // Sorted 0.005 0.01 0.03 0.04 times 4 3 2 1: 0.02 0.03 0.06 0.04, each at least the one before.
        const std::vector<double> adjusted = holm(std::vector{0.01, 0.04, 0.03, 0.005});
        const std::vector<double> expected{0.03, 0.06, 0.06, 0.02};
        for (std::size_t i = 0; i < expected.size(); ++i)
            CHECK(adjusted[i] == Approx(expected[i]));
        CHECK(holm(std::vector{0.6, 0.7}) == std::vector{1.0, 1.0});
        CHECK(holm(std::vector<double>{}).empty());
    }

    TEST_CASE("the bootstrap's interval is SciPy's BCa within the error of resampling, and leans to the long tail") {
        const std::vector<double> skewed{3.1, 2.7, 3.9, 4.4, 2.2, 5.8, 3.3, 3.0, 9.5, 2.9};
        const Interval interval = *bootstrap_interval(skewed, kKey);
        CHECK(interval.low == Approx(3.19).epsilon(0.03));   // the percentile bootstrap says 3.03
        CHECK(interval.high == Approx(6.08).epsilon(0.03));  // 5.50
    }

    TEST_CASE("the bootstrap's interval is the same for the same key and values, and another one for another key") {
        const Interval first = *bootstrap_interval(kDifferences, kKey);
        const Interval same = *bootstrap_interval(kDifferences, kKey);
        const Interval other = *bootstrap_interval(kDifferences, {.seed = 8, .purpose = Purpose::test});
        CHECK(first.low == same.low);
        CHECK(first.high == same.high);
        CHECK((first.low != other.low || first.high != other.high));
    }

    TEST_CASE("the bootstrap's interval covers the true mean about as often as it says") {
        constexpr int kTrials = 200;
        Stream stream({.seed = 11, .purpose = Purpose::test});
        int covered = 0;
        for (int trial = 0; trial < kTrials; ++trial) {
            std::vector<double> values(25);
            std::ranges::generate(values, [&] { return 3 + stream.normal(); });
            const Interval interval =
                *bootstrap_interval(values, {.seed = static_cast<std::uint32_t>(trial), .purpose = Purpose::test});
            covered += interval.low <= 3 && 3 <= interval.high ? 1 : 0;
        }
        CHECK(covered >= 176);  // 95 % of 200 is 190; 4.5 deviations below
        CHECK(covered < kTrials);
    }

    TEST_CASE("the Pareto front has what nothing beats, equal points included") {
        const std::vector<Point> points{{1, 5}, {2, 4}, {2, 5}, {3, 1}, {1, 5}};
        CHECK(pareto_front(points, false, true) == std::vector{true, false, false, false, true});
        CHECK(pareto_front(points, true, true) == std::vector{false, false, true, true, false});
        CHECK(pareto_front(points, true, false) == std::vector{false, false, false, true, false});
    }

    TEST_CASE("the rank correlation sees order alone, and ties share their rank") {
        CHECK(*rank_correlation(std::vector<Point>{{1, 1}, {2, 8}, {3, 27}, {9, 28}}) == doctest::Approx(1));
        CHECK(*rank_correlation(std::vector<Point>{{1, 3}, {2, 2}, {3, 1}}) == doctest::Approx(-1));
        // scipy.stats.spearmanr([1, 2, 2, 4], [1, 3, 2, 4])
        CHECK(*rank_correlation(std::vector<Point>{{1, 1}, {2, 3}, {2, 2}, {4, 4}}) == doctest::Approx(0.9486833));
        CHECK_FALSE(rank_correlation(std::vector<Point>{{1, 3}, {2, 3}}));
        CHECK_FALSE(rank_correlation(std::vector<Point>{}));
    }

    TEST_CASE("quantiles are linear between order statistics") {
        const std::vector<double> sorted{1, 2, 4, 8};
        CHECK(quantile(sorted, 0) == 1);
        CHECK(quantile(sorted, 0.5) == 3);
        CHECK(quantile(sorted, 1) == 8);
    }
}
