#include "aggregator/links.hpp"

#include "aggregator/detail/state_reader.hpp"
#include "core/error.hpp"
#include "core/rng.hpp"
#include "tests/unit/aggregator/fixtures.hpp"
#include "transport/codec.hpp"

#include <cmath>
#include <limits>
#include <numeric>

#include <doctest/doctest.h>
#include <rapidcheck.h>

using namespace dither;
using test::small_schema;

namespace {

Job grid_job(int uplink_bits, int downlink_bits) {
    Job job;
    job.codec.uplink = {.kind = "grid", .bits = uplink_bits};
    job.precision.uplink_noise = 0.05;
    job.codec.downlink = {.kind = "grid", .bits = downlink_bits};
    job.codec.downlink_of = "model";
    return job;
}

LayerStatistics moved(float range, float rms) {
    LayerStatistics statistics;
    statistics.update_range = range;
    statistics.update_rms = rms;
    return statistics;
}

/// fc1: all 2; fc2: 0, 0, 3.
constexpr std::array<float, 8> kModel{2, -2, 2, 2, -2, 0, 0, 3};

PrecisionPlan fp32_plan() {
    return PrecisionPlan::uniform(2, kFullBits);
}

}  // namespace

TEST_SUITE("aggregator/links") {
    TEST_CASE("the automatic downlink has the mean noise of 8 bits, in one step for all layers") {
        Links links(grid_job(0, 0), small_schema(), false);
        PrecisionPlan plan = fp32_plan();
        links.start(kModel, plan);
        links.choose(kModel, 1, plan);
        const double first = 2.0 / 127;
        const double second = 3.0 / 127;
        const double level = std::sqrt((5 * first * first + 3 * second * second) / 8);
        CHECK(links.downlink_steps()[0] == doctest::Approx(level));
        CHECK(links.downlink_steps()[1] == doctest::Approx(level));
        CHECK(plan.layers[0].downlink == 8);
        CHECK(plan.layers[1].downlink == 9);
    }

    TEST_CASE("a layer of small weights keeps at least 6 bits of its own range") {
        std::array<float, 8> model = kModel;
        for (std::size_t i = 0; i < 5; ++i)
            model[i] *= 1e-3F;
        Links links(grid_job(0, 0), small_schema(), false);
        PrecisionPlan plan = fp32_plan();
        links.choose(model, 1, plan);
        CHECK(links.downlink_steps()[0] == doctest::Approx(2e-3 / 31));
        CHECK(plan.layers[0].downlink == 6);
    }

    TEST_CASE("coarser grids go up to 2 bits and no further, and leave layers without products alone") {
        std::vector<LayerSpec> layers(small_schema().layers().begin(), small_schema().layers().end());
        layers[1].macs = 0;
        const Schema schema(std::move(layers));
        for (const int bits : {0, 8}) {
            Links links(grid_job(bits, bits), schema, false);
            PrecisionPlan plan = fp32_plan();
            links.start(kModel, plan);
            links.learn({.layers = std::array{moved(0.7F, 0.1F), moved(1.4F, 0.1F)}}, plan);
            links.choose(kModel, 1, plan);
            CHECK(links.can_be_coarser());
            const float before = links.uplink_steps()[0];
            const float wide = links.uplink_steps()[1];
            links.choose(kModel, 2, plan);
            CHECK(links.uplink_steps()[0] == doctest::Approx(2 * before));
            links.choose(kModel, 1e6, plan);
            CHECK_FALSE(links.can_be_coarser());
            CHECK(links.uplink_steps()[0] == doctest::Approx(0.7));
            CHECK(links.downlink_steps()[0] == doctest::Approx(2));
            CHECK(plan.layers[0].uplink == 2);
            CHECK(plan.layers[0].downlink == 2);
            CHECK(links.uplink_steps()[1] == wide);
            CHECK(plan.layers[1].uplink == 16);
            CHECK(plan.layers[1].downlink == 16);
        }
    }

    TEST_CASE("expected bytes are nominal widths before a round, and follow what a round took afterwards") {
        Links links(grid_job(4, 8), small_schema(), false);
        PrecisionPlan plan = fp32_plan();
        links.start(kModel, plan);
        links.choose(kModel, 1, plan);
        CHECK(links.expected_update_bytes() == doctest::Approx(8 * 4 / 8.0));
        const std::array statistics{moved(0.7F, 0.2F), moved(1.4F, 0.4F)};
        links.learn({.layers = statistics}, plan);
        links.choose(kModel, 1, plan);
        links.learn({.layers = statistics, .update_bytes = 3}, plan);
        links.choose(kModel, 1, plan);
        CHECK(links.expected_update_bytes() == doctest::Approx(3));
        links.choose(kModel, 2, plan);
        CHECK(links.expected_update_bytes() < 2.6);
        CHECK(links.expected_update_bytes() > 2);  // at most a bit less a coordinate
    }

    TEST_CASE("where the policy rules the uplink, its bits cover the range") {
        Links links(grid_job(0, 0), small_schema(), true);
        PrecisionPlan plan = fp32_plan();
        plan.layers[0].uplink = 3;
        plan.layers[1].uplink = 32;
        links.start(kModel, plan);
        links.learn({.layers = std::array{moved(0.6F, 0.1F), moved(32.767F, 0.1F)}}, plan);
        links.choose(kModel, 1, plan);
        CHECK(links.uplink_steps()[0] == doctest::Approx(0.2));
        CHECK(links.uplink_steps()[1] == doctest::Approx(0.001));
        CHECK(plan.layers[0].uplink == 3);
        CHECK(plan.layers[1].uplink == 16);
    }

    TEST_CASE("a link whose width changed says so with its numbers") {
        Links links(grid_job(0, 8), small_schema(), false);
        PrecisionPlan plan = fp32_plan();
        links.start(kModel, plan);
        links.choose(kModel, 1, plan);
        const PrecisionPlan before = plan;
        CHECK(links.changes(before, plan).empty());
        const std::array statistics{moved(100, 0.1F), moved(1, 0.1F)};
        links.learn({.layers = statistics, .mean_rms = std::array{0.06, 0.06}, .clients = 4}, plan);
        links.choose(kModel, 1, plan);
        const auto changes = links.changes(before, plan);
        REQUIRE_FALSE(changes.empty());
        CHECK(changes[0].phase == Phase::uplink);
        CHECK(changes[0].from == before.layers[0].uplink);
        CHECK(changes[0].to == plan.layers[0].uplink);
        CHECK(changes[0].reason == "step 0.0506 for updates of RMS 0.1 that reach 100 and disagree by 0.0924");
    }

    TEST_CASE("a delta's noise is the asked share of what the clients' disagreement leaves in their mean") {
        Job job = grid_job(0, 0);
        job.codec.downlink_of = "delta";
        Links links(job, small_schema(), false);
        PrecisionPlan plan = fp32_plan();
        links.start(kModel, plan);
        const std::array statistics{moved(1, 0.2F), moved(1, 0.2F)};
        links.learn({.layers = statistics, .mean_rms = std::array{0.1, 0.1}, .clients = 4}, plan);
        std::array<float, 8> delta{};
        delta.fill(0.1F);
        links.choose_delta(delta, 1, plan);
        const double disagreement = disagreement_of(0.2F, 0.1, 4);
        CHECK(links.delta_steps()[0] == doctest::Approx(std::sqrt(6 * 0.05 * disagreement / 4)));
        CHECK(links.delta_steps()[0] == links.delta_steps()[1]);
        links.choose(kModel, 1, plan);
        CHECK(plan.layers[0].downlink < 8);  // the delta's, which choose() leaves alone
        const auto changes = links.changes(fp32_plan(), plan);
        REQUIRE(changes.size() == 4);
        CHECK(changes[1].reason == "step 0.0548 for changes of RMS 0.1 that reach 0.1");
    }

    TEST_CASE("restored links choose as the interrupted ones would have") {
        Links one(grid_job(0, 0), small_schema(), false);
        PrecisionPlan plan = fp32_plan();
        one.start(kModel, plan);
        one.learn({.layers = std::array{moved(0.7F, 0.1F), moved(1.4F, 0.1F)}, .update_bytes = 3}, plan);
        one.choose(kModel, 1, plan);
        one.learn({.layers = std::array{moved(0.9F, 0.2F), moved(1.4F, 0.1F)}, .update_bytes = 5}, plan);
        std::vector<double> state;
        one.append_state(state);
        Links other(grid_job(0, 0), small_schema(), false);
        StateReader reader(state);
        other.restore(reader);
        CHECK(reader.rest().empty());
        one.choose(kModel, 1.5, plan);
        other.choose(kModel, 1.5, plan);
        CHECK(std::ranges::equal(one.uplink_steps(), other.uplink_steps()));
        CHECK(std::ranges::equal(one.downlink_steps(), other.downlink_steps()));
        CHECK(one.expected_update_bytes() == other.expected_update_bytes());
    }
}
