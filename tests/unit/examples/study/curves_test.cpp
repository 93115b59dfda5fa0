#include "examples/study/curves.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "examples/study/draw.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace dither {
namespace {

using Pairs = std::vector<std::pair<double, double>>;

Pairs pairs_of(const std::vector<Point>& points) {
    Pairs found;
    for (const Point& point : points)
        found.emplace_back(point.x, point.y);
    return found;
}

Pairs pairs(std::vector<std::optional<double>> x, std::vector<std::optional<double>> y) {
    return pairs_of(pair_with_next(std::move(x), std::move(y)));
}

/// A study of one method, whose finished seeds left these files.
class Finished {
public:
    void add(const std::string& rounds, const std::string& summary = "{}") {
        const std::string cell = "cell" + std::to_string(results_.size());
        const std::filesystem::path run = folder_.cell(cell, study_).run();
        std::filesystem::create_directories(run);
        test::write_text(run / "rounds.jsonl", rounds);
        test::write_text(run / "summary.json", summary);
        results_.push_back({.row = {.cell = cell}, .state = RowState::done});
    }
    void add_failed() { results_.push_back({.row = {.cell = "failed"}, .state = RowState::failed}); }
    Curves curves() const { return {study_, folder_, results_}; }

private:
    test::TemporaryFolder place_;
    StudyText text_{.study_file = "study.toml",
                    .study =
                        "[study]\nname = \"s\"\njob = \"job.toml\"\n[[method]]\nname = \"m\"\n"
                        "[[metric]]\nname = \"n\"\nfrom = \"summary.n\"\n",
                    .job_file = "job.toml"};
    Study study_ = parse_study(text_);
    StudyFolder folder_{place_.path() / "study", text_};
    std::vector<Result> results_;
};

const std::string kGaps =
    "{\"round\": 1, \"up\": 10, \"down\": 1, \"accuracy\": 0.2}\n"
    "{\"round\": 2, \"up\": 20, \"down\": null, \"accuracy\": 0.4}\n"
    "{\"round\": 3, \"up\": 30, \"down\": 3, \"accuracy\": 0.6}\n"
    "{\"round\": 4, \"up\": 40, \"down\": 4, \"accuracy\": null}\n";

Pairs curve(const Finished& finished, bool cumulated) {
    Pairs found;
    Curves curves = finished.curves();
    for (const CurvePoint& point : curves.mean_curve(0, 0, "accuracy", {"up", "down"}, cumulated))
        found.emplace_back(point.x, point.mean);
    return found;
}

}  // namespace

TEST_SUITE("examples/study/curves") {
    TEST_CASE("what was measured in a round is paired with the bits of the next one") {
        CHECK(pairs({1, 2, 3}, {32, 8, 4}) == Pairs{{1, 8}, {2, 4}});
        CHECK(pairs({1}, {32}).empty());
        CHECK(pairs({}, {}).empty());
    }

    TEST_CASE("a round without a measurement has the one before, and none before the first") {
        CHECK(pairs({std::nullopt, 2, std::nullopt, 5}, {32, 16, 8, 4}) == Pairs{{2, 8}, {2, 4}});
    }

    TEST_CASE("a curve over a sum leaves out rounds without a part of it; over the sum so far that part is none") {
        Finished one;
        one.add(kGaps);
        CHECK(curve(one, false) == Pairs{{11, 0.2}, {33, 0.6}});
        CHECK(curve(one, true) == Pairs{{11, 0.2}, {31, 0.4}, {64, 0.6}});
    }

    TEST_CASE("a curve is the mean of the finished seeds, as long as the shortest run") {
        Finished two;
        two.add_failed();
        two.add(
            "{\"round\": 1, \"up\": 12, \"down\": 1, \"accuracy\": 0.4}\n"
            "{\"round\": 2, \"up\": 20, \"down\": 2, \"accuracy\": 0.8}\n");
        two.add(kGaps);
        Curves curves = two.curves();
        const std::vector<CurvePoint> points = curves.mean_curve(0, 0, "accuracy", {"up"}, false);
        REQUIRE(points.size() == 2);
        CHECK(points[0].x == 11);
        CHECK(points[1].x == 20);
        CHECK(points[0].mean == doctest::Approx(0.3));
        CHECK(points[1].mean == doctest::Approx(0.6));
        CHECK(points[0].deviation == doctest::Approx(0.1414214));
        CHECK(Finished().curves().mean_curve(0, 0, "accuracy", {"up"}, false).empty());
    }

    TEST_CASE("a list is the mean of the seeds' lists, and none where one has another length, a gap or nothing") {
        const auto mean_of = [](const std::string& other) {
            Finished two;
            two.add(kGaps, "{\"list\": [1, 2, 3]}");
            two.add(kGaps, other);
            return two.curves().mean_list(0, 0, parse_metric_path("summary.list"));
        };
        CHECK(mean_of("{\"list\": [3, 4, 8]}") == std::vector<double>{2, 3, 5.5});
        CHECK(mean_of("{\"list\": [3, 4]}").empty());
        CHECK(mean_of("{\"list\": [3, null, 8]}").empty());
        CHECK(mean_of("{\"list\": 3}").empty());
        CHECK(mean_of("{}").empty());
    }

    TEST_CASE("a list of a round that there is not is none, and no fault; one of an unknown key is") {
        Finished one;
        one.add(kGaps);
        Curves curves = one.curves();
        CHECK(curves.mean_list(0, 0, parse_metric_path("round[5].list")).empty());
        CHECK_NOTHROW(curves.check(0, 0, parse_metric_path("round[5].list")));
        CHECK_THROWS_AS(curves.check(0, 0, parse_metric_path("round[1].list")), FormatError);
    }

    TEST_CASE("a layer's points are those of all seeds, what was measured beside the next round's bits") {
        const auto round = [](const std::string& first, int bits, int other) {
            return "{\"layers\": [{\"name\": \"conv\", \"curvature\": " + first +
                   ", \"bits\": {\"forward\": " + std::to_string(bits) +
                   "}}, {\"name\": \"fc\", \"curvature\": 7, \"bits\": {\"forward\": " + std::to_string(other) +
                   "}}]}\n";
        };
        Finished two;
        two.add(round("5", 32, 32) + round("null", 8, 6) + round("2", 4, 3));
        two.add(round("null", 32, 32) + round("9", 16, 2) + round("1", 6, 8));
        const auto points = two.curves().layer_points(0, 0, "curvature", "bits.forward");
        REQUIRE(points.size() == 2);
        CHECK(pairs_of(points.at("conv")) == Pairs{{5, 8}, {5, 4}, {9, 6}});
        CHECK(pairs_of(points.at("fc")) == Pairs{{7, 6}, {7, 3}, {7, 2}, {7, 8}});
    }

    TEST_CASE("cells are points of a scatter once each, those with both metrics of the methods that it draws") {
        const auto result = [](std::size_t method, const std::string& cell, std::optional<double> x,
                               std::optional<double> y) {
            return Result{.row = {.method = method, .cell = cell}, .values = {x, y}};
        };
        const Plot plot{.methods = {0, 1}, .points = {0}, .x = 0, .y = 1};
        CHECK(pairs_of(cell_points(plot, {result(0, "a", 1, 2), result(1, "a", 1, 2), result(1, "b", 3, 4),
                                          result(1, "c", 5, std::nullopt), result(2, "d", 6, 7)})) ==
              Pairs{{1, 2}, {3, 4}});
    }
}

}  // namespace dither
