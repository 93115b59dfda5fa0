#include "aggregator/norm_bound.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

using namespace dither;

namespace {

std::vector<WeightedReport> of_norms(const std::vector<double>& norms) {
    std::vector<WeightedReport> reports;
    for (const double norm : norms)
        reports.push_back({.update_norm = norm});
    return reports;
}

NormBound learnt_from(double factor, const std::vector<double>& norms) {
    NormBound bound(factor);
    bound.learn(of_norms(norms));
    return bound;
}

}  // namespace

TEST_SUITE("aggregator/norm_bound") {
    TEST_CASE("before a round has committed, without a factor and after a round that moved nothing any norm counts") {
        for (const NormBound& bound : {NormBound(4), learnt_from(0, {1, 2, 3}), learnt_from(4, {0, 0, 0})}) {
            CHECK(std::isinf(bound.largest()));
            CHECK(bound.share(1e300) == 1);
            CHECK(bound.counted(7, 1e300) == 7);
        }
    }

    TEST_CASE("the bound follows the lower median of the last committed round, whatever a minority sends") {
        CHECK(learnt_from(4, {1, 2, 3}).largest() == 8);
        CHECK(learnt_from(4, {3, 1, 2, 4}).largest() == 8);
        CHECK(learnt_from(4, {1, 1e30, 2, 3, 1e30}).largest() == 12);
        NormBound bound = learnt_from(4, {1, 2, 3});
        bound.learn({});
        CHECK(bound.largest() == 8);
        bound.learn(of_norms({5}));
        CHECK(bound.largest() == 20);
    }

    TEST_CASE(
        "an update within the bound counts in full, a longer one for its weight times bound / norm, rounded down") {
        const NormBound bound = learnt_from(2, {5});
        CHECK(bound.counted(64, 10) == 64);
        CHECK(bound.counted(64, 20) == 32);
        CHECK(bound.counted(64, 30) == 21);
        CHECK(bound.counted(1, 11) == 0);
        CHECK(bound.counted(std::uint64_t{1} << 40, 20) == std::uint64_t{1} << 39);
        CHECK(bound.counted(64, std::numeric_limits<double>::infinity()) == 0);
    }

    TEST_CASE("a restored bound is the one that was kept") {
        const NormBound bound = learnt_from(4, {3, 1, 2});
        NormBound again(4);
        again.restore(bound.typical());
        CHECK(again.largest() == bound.largest());
    }
}
