#include "examples/study/metric_path.hpp"

#include <doctest/doctest.h>

#include <string>

#include "core/error.hpp"

using namespace dither;
using doctest::Approx;

namespace {

CellRecord record() {
    CellRecord cell;
    cell.summary = {{"final_accuracy", 0.9}, {"final_loss", nullptr}, {"cpu", "a name"}};
    for (int round = 1; round <= 4; ++round)
        cell.rounds.push_back({{"round", round},
                               {"loss", 1.0 / round},
                               {"accuracy", round % 2 == 0 ? nlohmann::json(0.1 * round) : nlohmann::json()},
                               {"layers", {{{"bits", 8}}, {{"bits", 4 * round}}}}});
    cell.rounds.back()["swa"] = 0.5;  // a key of evaluated rounds alone
    cell.evaluations["int4"] = {{"quantized", {{"accuracy", 0.7}}}};
    return cell;
}

std::optional<double> value(const std::string& path) {
    return value_of(parse_metric_path(path), record());
}

std::string failure(const std::string& path) {
    try {
        value(path);
    } catch (const std::runtime_error& error) {
        return error.what();
    }
    return "";
}

}  // namespace

TEST_SUITE("examples/study/metric_path") {
    TEST_CASE("a path finds its number among what a cell left") {
        CHECK(*value("summary.final_accuracy") == 0.9);
        CHECK(*value("round[2].loss") == 0.5);
        CHECK(*value("round[-1].loss") == 0.25);
        CHECK(*value("round[3].layers[1].bits") == 12);
        CHECK(*value("round[3].layers[-2].bits") == 8);
        CHECK(*value("evaluate.int4.quantized.accuracy") == 0.7);
    }

    TEST_CASE("reductions take the rounds that have a value") {
        CHECK(*value("rounds.last(1).accuracy") == Approx(0.4));
        CHECK(*value("rounds.last(2).accuracy") == Approx(0.3));
        CHECK(*value("rounds.last(9).accuracy") == Approx(0.3));
        CHECK(*value("rounds.mean.loss") == Approx((1 + 0.5 + 1.0 / 3 + 0.25) / 4));
        CHECK(*value("rounds.min.loss") == 0.25);
        CHECK(*value("rounds.max.loss") == 1);
        CHECK(*value("rounds.sum.layers[1].bits") == 40);
        CHECK(*value("rounds.mean.swa") == 0.5);
    }

    TEST_CASE("null is no value, and no error") {
        CHECK(!value("summary.final_loss"));
        CHECK(!value("round[1].accuracy"));
    }

    TEST_CASE("a list is found where it is, and nothing where there is no such round") {
        const CellRecord cell = record();
        CHECK(find_value(parse_metric_path("round[2].layers"), cell) == &cell.rounds[1].at("layers"));
        CHECK(find_value(parse_metric_path("round[5].layers"), cell) == nullptr);
        CHECK(find_value(parse_metric_path("round[-5].layers"), cell) == nullptr);
    }

    TEST_CASE("a path to anything is checked as a number's is, but for a round that there is not") {
        const CellRecord cell = record();
        for (const char* path : {"round[2].layers", "round[5].nothing", "summary.cpu", "rounds.mean.layers[1].bits"})
            CHECK_NOTHROW(check_path(parse_metric_path(path), cell));
        for (const char* path :
             {"round[2].layer", "summary.cpus", "evaluate.int4.quantised", "rounds.mean.layers[1].bit"})
            CHECK_THROWS_AS_MESSAGE(check_path(parse_metric_path(path), cell), FormatError, path);
    }

    TEST_CASE("what is not there is an error that names the nearest key") {
        CHECK(failure("summary.final_acuracy").find("the nearest key is final_accuracy") != std::string::npos);
        CHECK(failure("rounds.mean.los").find("the nearest key is loss") != std::string::npos);
        CHECK(failure("evaluate.int4.quantised.accuracy").find("the nearest key is quantized") != std::string::npos);
        CHECK(failure("summary.cpu").find("expected a number, found string") != std::string::npos);
        CHECK(failure("round[5].loss").find("no such round among 4") != std::string::npos);
        CHECK(failure("round[-5].loss").find("no such round among 4") != std::string::npos);
        CHECK(failure("round[1].layers[2].bits").find("no such value") != std::string::npos);
    }

    TEST_CASE("a path of another form is refused and the forms are said") {
        for (const char* path : {"",
                                 "summary",
                                 "summary.",
                                 ".x",
                                 "sumary.x",
                                 "round.x",
                                 "round[0].x",
                                 "round[x].x",
                                 "round[1]x.y",
                                 "rounds.x",
                                 "rounds.median.x",
                                 "rounds.last(0).x",
                                 "rounds.last(.x",
                                 "evaluate.int4",
                                 "summary.a..b",
                                 "summary.a.",
                                 "summary.a[b]",
                                 "summary.a[1",
                                 "summary.a[1]b",
                                 "summary.a.[1]",
                                 "summary.a[]"})
            CHECK_MESSAGE(failure(path).find("rounds.last(N).KEY") != std::string::npos, path);
    }
}
