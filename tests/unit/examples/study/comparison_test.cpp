#include "examples/study/comparison.hpp"

#include <doctest/doctest.h>

using namespace dither;
using doctest::Approx;

namespace {

Study two_methods() {
    Study study{.name = "s", .seeds = {1, 2, 3}};
    study.methods = {{.name = "base"}, {.name = "other"}};
    study.metrics.push_back({.name = "m"});
    return study;
}

Result result(std::size_t method, std::uint32_t seed, std::optional<double> value, RowState state = RowState::done) {
    return {.row = {.method = method, .seed = seed}, .state = state, .values = {value}};
}

}  // namespace

TEST_SUITE("examples/study/comparison") {
    TEST_CASE("methods are compared seed by seed, over those that both have") {
        const std::vector<Result> results{result(0, 1, 0.80), result(0, 2, 0.83), result(0, 3, 0.5),
                                          result(1, 1, 0.81), result(1, 2, 0.84), result(1, 3, {}, RowState::failed)};
        const auto summaries = compare(two_methods(), 0, results);
        REQUIRE(summaries.size() == 2);
        CHECK(!summaries[0].difference);
        CHECK(*summaries[0].mean == Approx(0.71));
        CHECK(summaries[1].failed == 1);
        REQUIRE(summaries[1].difference);
        CHECK(summaries[1].difference->pairs == 2);
        CHECK(summaries[1].difference->mean == Approx(0.01));
    }

    TEST_CASE("differences of the same decimals are the same, whatever binary rounding makes of them") {
        const std::vector<Result> results{result(0, 1, 0.80), result(0, 2, 0.83), result(0, 3, 0.57),
                                          result(1, 1, 0.81), result(1, 2, 0.84), result(1, 3, 0.58)};
        const auto summaries = compare(two_methods(), 0, results);
        CHECK(!summaries[1].difference->dz);  // there is no deviation
        CHECK(*summaries[1].difference->wilcoxon == Approx(0.25));
    }

    TEST_CASE("equal values have equal intervals, and a study's other methods change none") {
        Study study = two_methods();
        const std::vector<Result> results{result(0, 1, 1.0), result(0, 2, 2.0), result(0, 3, 4.0),
                                          result(1, 1, 1.0), result(1, 2, 2.0), result(1, 3, 4.0)};
        const auto both = compare(study, 0, results);
        CHECK(both[0].interval->low == both[1].interval->low);
        study.methods.pop_back();
        const auto alone = compare(study, 0, {results.begin(), results.begin() + 3});
        CHECK(alone[0].interval->high == both[0].interval->high);
    }

    TEST_CASE("a method without any value has none, and no comparison") {
        const std::vector<Result> results{result(0, 1, 1.0), result(0, 2, 2.0),
                                          result(0, 3, 4.0), result(1, 1, {}, RowState::failed),
                                          result(1, 2, {}),  result(1, 3, {}, RowState::missing)};
        const auto summaries = compare(two_methods(), 0, results);
        CHECK(!summaries[1].mean);
        CHECK(!summaries[1].interval);
        CHECK(!summaries[1].difference);
        CHECK(summaries[1].failed == 1);
        CHECK(summaries[1].missing == 2);
    }
}
