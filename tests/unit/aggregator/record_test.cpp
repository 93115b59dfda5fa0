#include "aggregator/record.hpp"

#include "core/error.hpp"
#include "core/version.hpp"
#include "tests/unit/aggregator/fixtures.hpp"

#include <limits>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace dither;
using nlohmann::json;
using test::small_schema;

namespace {

RoundRecord sample_record() {
    RoundRecord record;
    record.round = 3;
    record.train_loss = 0.5;
    record.test_loss = 0.25;
    record.test_accuracy = 0.9;
    record.grad_norm = 1.5;
    record.update_nmse = 0.625;
    record.participants = 10;
    record.dropped = 2;
    record.rejected = 1;
    record.samples = 6000;
    record.bytes_up = 1000;
    record.bytes_down = 3000;
    record.bit_ops = {.training = 8e9, .optimizer = 1e6, .training_fp32 = 32e9, .optimizer_fp32 = 4e6, .probe = 8e9};
    record.seconds = 2;
    record.plan = PrecisionPlan::uniform(2, 8);
    record.plan.layers[0].backward = 4;
    record.layers.resize(2);
    record.layers[0].grad_norm = 0.1F;
    record.layers[0].curvature = 0.25F;
    record.layers[0].curvature_norm = 7;
    record.layers[0].forward_error = 0.1F;
    record.layers[0].underflow = 0.25F;
    record.layers[0].update_nmse = 0.5F;
    record.layers[1].curvature_norm = 5;
    record.reason = {"one", "two"};
    record.bit_ops.bops = 1e9;
    record.bit_ops.bops_fp32 = 16e9;
    record.work = {{.forward = 1e9, .backward = 2e9, .optimizer = 3e5}, {.forward = 2e9, .backward = 3e9}};
    record.changes = {{1, Phase::backward, 8, 4, "step error 0.19"}, {0, Phase::forward, 4, 8, "saturated"}};
    record.plans = 2;
    record.train_seconds = 4;
    record.probe_seconds = 0.5;
    return record;
}

}  // namespace

TEST_SUITE("aggregator/record") {
    TEST_CASE(
        "a regression's errors and the clients' scores are told where there are any, and the last ones at the end") {
        RoundRecord record = sample_record();
        record.test_errors = RegressionErrors{.rmse = 2, .mae = 1.5, .r2 = 0.75};
        record.clients = ClientScores{
            .count = 3,
            .samples = 30,
            .accuracy =
                Spread{
                    .mean = 0.5, .weighted_mean = 0.625, .p10 = 0.25, .p50 = 0.5, .p90 = 0.75, .min = 0.125, .max = 1},
            .personal_accuracy = Spread{.mean = 0.875},
            .loss = {.mean = 3},
            .personal_loss = {.mean = 1}};
        RunTotals totals;
        totals.add(record, 1, 1);
        totals.add(sample_record(), 1, 1);  // not evaluated
        const json line = json::parse(to_json_line(record, small_schema()));
        const json summary = json::parse(to_summary_json({}, totals, {}, {}));
        CHECK(line["test_rmse"] == 2);
        CHECK(line["test_mae"] == 1.5);
        CHECK(line["test_r2"] == 0.75);
        CHECK(summary["final_rmse"] == 2);
        CHECK(summary["final_r2"] == 0.75);
        CHECK(line["clients"]["count"] == 3);
        CHECK(line["clients"]["samples"] == 30);
        CHECK(line["clients"]["accuracy"] == json::parse(R"({"mean": 0.5, "weighted_mean": 0.625, "p10": 0.25,
            "p50": 0.5, "p90": 0.75, "min": 0.125, "max": 1.0})"));
        CHECK(line["clients"]["personal_accuracy"]["mean"] == 0.875);
        CHECK(line["clients"]["loss"]["mean"] == 3);
        CHECK(summary["clients"] == line["clients"]);
    }

    TEST_CASE("a line of rounds.jsonl has the promised keys") {
        const std::string text = to_json_line(sample_record(), small_schema());
        CHECK(text.find('\n') == std::string::npos);
        const json line = json::parse(text);
        CHECK(line["round"] == 3);
        CHECK(line["train_loss"] == 0.5);
        CHECK(line["test_loss"] == 0.25);
        CHECK(line["test_accuracy"] == 0.9);
        CHECK_FALSE(line.contains("test_rmse"));
        CHECK_FALSE(line.contains("clients"));
        CHECK(line["grad_norm"] == 1.5);
        CHECK(line["update_nmse"] == 0.625);
        CHECK(line["participants"] == 10);
        CHECK(line["dropped"] == 2);
        CHECK(line["rejected"] == 1);
        CHECK(line["bytes_up"] == 1000);
        CHECK(line["bytes_down"] == 3000);
        CHECK(line["bit_ops"] == 8e9);
        CHECK(line["bit_ops_fp32"] == 32e9);
        CHECK(line["bit_ops_optimizer"] == 1e6);
        CHECK(line["bit_ops_optimizer_fp32"] == 4e6);
        CHECK(line["bit_ops_probe"] == 8e9);
        CHECK(line["seconds"] == 2);
        CHECK(line["model_sha256"] == std::string(64, '0'));
        CHECK(line["reason"] == "one; two; fc2 backward 8 -> 4: step error 0.19; fc1 forward 4 -> 8: saturated");
        const json& layer = line["layers"][0];
        CHECK(layer["name"] == "fc1");
        CHECK(layer["bits"] == json{{"forward", 8}, {"backward", 4}, {"optimizer", 8}, {"uplink", 8}, {"downlink", 8}});
        CHECK(layer["grad_norm"] == 0.1);  // the float's own digits
        CHECK(layer["snr_db"] == doctest::Approx(20));
        CHECK(layer["underflow"] == 0.25);
        CHECK(layer["update_nmse"] == 0.5);
        CHECK(line["layers"][1]["name"] == "fc2");
    }

    TEST_CASE("a line says what was computed in which layer and phase, how long it took, and how many plans ran") {
        const json line = json::parse(to_json_line(sample_record(), small_schema()));
        CHECK(line["layers"][0]["bit_ops"] == json{{"forward", 1e9}, {"backward", 2e9}, {"optimizer", 3e5}});
        CHECK(line["layers"][1]["bit_ops"]["backward"] == 3e9);
        CHECK(line["bops"] == 1e9);
        CHECK(line["bops_fp32"] == 16e9);
        CHECK(line["mean_bits"] == 8);
        CHECK(line["plans"] == 2);
        CHECK(line["train_seconds"] == 4);
        CHECK(line["probe_seconds"] == 0.5);
    }

    TEST_CASE("every change of the plan is an object with its reason") {
        const json line = json::parse(to_json_line(sample_record(), small_schema()));
        REQUIRE(line["changes"].size() == 2);
        CHECK(line["changes"][0] ==
              json{{"layer", "fc2"}, {"phase", "backward"}, {"from", 8}, {"to", 4}, {"reason", "step error 0.19"}});
        CHECK(line["changes"][1]["layer"] == "fc1");
        RoundRecord quiet = sample_record();
        quiet.changes.clear();
        CHECK(json::parse(to_json_line(quiet, small_schema()))["changes"] == json::array());
    }

    TEST_CASE("a round without work has none in its line") {
        RoundRecord record = sample_record();
        record.work.clear();
        record.bit_ops = {};
        const json line = json::parse(to_json_line(record, small_schema()));
        CHECK(line["layers"][0]["bit_ops"].is_null());
        CHECK(line["mean_bits"].is_null());
    }

    TEST_CASE("what was not measured is null, and curvature falls back to its norm") {
        RoundRecord record = sample_record();
        record.test_loss.reset();
        record.test_accuracy.reset();
        record.update_nmse.reset();
        record.train_loss = std::numeric_limits<double>::quiet_NaN();
        const json line = json::parse(to_json_line(record, small_schema()));
        CHECK(line["test_loss"].is_null());
        CHECK(line["test_accuracy"].is_null());
        CHECK(line["train_loss"].is_null());
        CHECK(line["update_nmse"].is_null());
        CHECK(line["layers"][1]["update_nmse"].is_null());
        CHECK(line["layers"][0]["curvature"] == 0.25);
        CHECK(line["layers"][0]["curvature_norm"] == 7);
        CHECK(line["layers"][1]["curvature"] == 5);
        CHECK(line["layers"][1]["theta_norm"].is_null());
        CHECK(line["layers"][1]["saturation"].is_null());
    }

    TEST_CASE("a reason with bytes that are no text still makes a line") {
        RoundRecord record = sample_record();
        record.reason = {"\xff\xfe"};
        CHECK_NOTHROW(json::parse(to_json_line(record, small_schema())));
    }

    TEST_CASE("the same record always gives the same bytes") {
        CHECK(to_json_line(sample_record(), small_schema()) == to_json_line(sample_record(), small_schema()));
    }

    TEST_CASE("a record of another model is a defect of the caller") {
        RoundRecord record = sample_record();
        record.layers.pop_back();
        CHECK_THROWS_AS(to_json_line(record, small_schema()), PreconditionError);
        record = sample_record();
        record.work.pop_back();
        CHECK_THROWS_AS(to_json_line(record, small_schema()), PreconditionError);
    }

    TEST_CASE("totals add up, and remember the last and the best evaluation") {
        RunTotals totals;
        RoundRecord record = sample_record();
        totals.add(record, 80, 80);
        record.test_accuracy = 0.8;
        record.test_loss = 0.3;
        totals.add(record, 80, 160);
        record.test_accuracy.reset();
        record.test_loss.reset();
        totals.add(record, 0, 0);
        CHECK(totals.rounds == 3);
        CHECK(totals.samples == 18000);
        CHECK(totals.bytes_up == 3000);
        CHECK(totals.coordinates_up == 160);
        CHECK(totals.coordinates_down == 240);
        CHECK(totals.bit_ops.training == 24e9);
        CHECK(totals.final_accuracy == 0.8);
        CHECK(totals.best_accuracy == 0.9);
        CHECK(totals.final_loss == 0.3);
        CHECK(totals.train_seconds == 12);
        CHECK(totals.probe_seconds == 1.5);
        CHECK(totals.plan_changes == 6);
        CHECK(totals.compression() == doctest::Approx(4.0 * 400 / 12000));
        CHECK(RunTotals{}.compression() == 0);
    }

    TEST_CASE("the summary has the promised keys, and its ratios are those of its own numbers") {
        RunTotals totals;
        totals.add(sample_record(), 1000, 2000);
        Job job;
        job.job.seed = 42;
        const RunPlace place{.ranks = 5, .backend = "eigen/avx2", .cpu = "a processor"};
        const json summary = json::parse(to_summary_json(job, totals, {}, place));
        CHECK(summary["final_accuracy"] == 0.9);
        CHECK(summary["final_loss"] == 0.25);
        CHECK(summary["best_accuracy"] == 0.9);
        CHECK(summary["rounds"] == 1);
        CHECK(summary["samples"] == 6000);
        CHECK(summary["samples_per_s"] == 3000);
        CHECK(summary["seconds"] == 2);
        CHECK(summary["bytes_up"] == 1000);
        CHECK(summary["bytes_down"] == 3000);
        CHECK(summary["bits_per_coordinate_up"] == 8);
        CHECK(summary["bits_per_coordinate_down"] == 12);
        CHECK(summary["compression_total"] == 3);
        CHECK(summary["bit_ops"] == 8e9);
        CHECK(summary["bit_ops_probe"] == 8e9);
        CHECK(summary["bit_ops_ratio_fp32"] == 0.5);  // the probes are paid for, too
        CHECK(summary["bops"] == 1e9);
        CHECK(summary["bops_ratio_fp32"] == 0.0625);
        CHECK(summary["mean_bits"] == 8);
        CHECK(summary["plan_changes"] == 2);
        CHECK(summary["probe_share"] == 0.125);
        CHECK(summary["model_sha256"] == std::string(64, '0'));
        CHECK(summary["seed"] == 42);
        CHECK(summary["ranks"] == 5);
        CHECK(summary["backend"] == "eigen/avx2");
        CHECK(summary["cpu"] == "a processor");
        CHECK(summary["version"] == std::string(version()));
        CHECK(identity(parse_job(summary["job"].get<std::string>(), "summary")) == identity(job));
    }

    TEST_CASE("only a run that averages models speaks of the average") {
        RoundRecord record = sample_record();
        CHECK_FALSE(json::parse(to_json_line(record, small_schema())).contains("swa_loss"));
        RunTotals totals;
        totals.add(record, 0, 0);
        CHECK_FALSE(json::parse(to_summary_json({}, totals, {}, {})).contains("swa_accuracy"));
        record.swa_loss = 0.125;
        record.swa_accuracy = 0.95;
        const json line = json::parse(to_json_line(record, small_schema()));
        CHECK(line["swa_loss"] == 0.125);
        CHECK(line["swa_accuracy"] == 0.95);
        totals.add(record, 0, 0);
        totals.add(sample_record(), 0, 0);
        const json summary = json::parse(to_summary_json({}, totals, {}, {}));
        CHECK(summary["swa_loss"] == 0.125);
        CHECK(summary["swa_accuracy"] == 0.95);
    }

    TEST_CASE("a run without an evaluation has no accuracy, and one without a round no ratios") {
        const json summary = json::parse(to_summary_json({}, {}, {}, {}));
        CHECK(summary["final_accuracy"].is_null());
        CHECK(summary["compression_total"] == 0);
        CHECK(summary["samples_per_s"] == 0);
        CHECK(summary["mean_bits"].is_null());
        CHECK(summary["probe_share"] == 0);
    }

    TEST_CASE("a change of the plan reads as layer, phase, widths and why") {
        const PlanChange change{1, Phase::backward, 8, 4, "the error is 0.2"};
        CHECK(describe(change, small_schema()) == "fc2 backward 8 -> 4: the error is 0.2");
    }

    TEST_CASE("the processor has a name") {
        CHECK_FALSE(cpu_name().empty());
    }
}
