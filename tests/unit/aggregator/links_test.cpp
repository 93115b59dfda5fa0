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

double noise_of(std::span<const double> steps, std::span<const std::size_t> counts) {
    double noise = 0;
    for (std::size_t i = 0; i < steps.size(); ++i)
        noise += static_cast<double>(counts[i]) * steps[i] * steps[i] / 6;
    return noise;
}

double disagreement_of_all(std::span<const UpdateSpread> layers, std::span<const std::size_t> counts) {
    double sum = 0;
    for (std::size_t i = 0; i < layers.size(); ++i)
        sum += static_cast<double>(counts[i]) * layers[i].disagreement;
    return sum;
}

/// log2(rms / step) a coordinate: what entropy coding takes, but for a constant.
double bits_of(std::span<const UpdateSpread> layers, std::span<const double> steps,
               std::span<const std::size_t> counts) {
    double bits = 0;
    for (std::size_t i = 0; i < steps.size(); ++i)
        bits += static_cast<double>(counts[i]) * std::log2(layers[i].rms / steps[i]);
    return bits;
}

Job grid_job(int uplink_bits, int downlink_bits) {
    Job job;
    job.codec.uplink = {.kind = "grid", .bits = uplink_bits};
    job.codec.downlink = {.kind = "grid", .bits = downlink_bits};
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

/// Entropy of a code, in bits, measured on stochastically rounded normal values.
double measured_entropy(double step) {
    std::vector<float> values(1 << 16);
    std::vector<float> uniform(values.size());
    Stream(StreamKey{.purpose = Purpose::test}).fill_normal(values);
    Stream(StreamKey{.purpose = Purpose::test, .lane = 1}).fill_uniform(uniform);
    std::map<int, double> counts;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double ratio = values[i] / step;
        const double low = std::floor(ratio);
        counts[static_cast<int>(low) + (uniform[i] < ratio - low ? 1 : 0)] += 1;
    }
    double entropy = 0;
    for (const auto& [code, count] : counts)
        entropy -= count / static_cast<double>(values.size()) * std::log2(count / static_cast<double>(values.size()));
    return entropy;
}

}  // namespace

TEST_SUITE("aggregator/links: water-filling") {
    TEST_CASE("the noise is the asked share of the disagreement, at one level for all layers") {
        const std::vector<UpdateSpread> layers{{.range = 1, .rms = 0.1, .disagreement = 0.008},
                                               {.range = 1, .rms = 0.05, .disagreement = 0.002},
                                               {.range = 1, .rms = 0.2, .disagreement = 0.01}};
        const std::vector<std::size_t> counts{100, 1000, 50};
        const auto steps = water_filling_steps(layers, counts, 0.05);
        CHECK(steps[0] == doctest::Approx(steps[1]));
        CHECK(steps[0] == doctest::Approx(steps[2]));
        CHECK(noise_of(steps, counts) == doctest::Approx(0.05 * disagreement_of_all(layers, counts)));
    }

    TEST_CASE("a layer that hardly moves keeps its own step, and the others share what it leaves") {
        const std::vector<UpdateSpread> layers{{.range = 1, .rms = 0.1, .disagreement = 0.01},
                                               {.range = 1, .rms = 1e-4, .disagreement = 1e-8}};
        const std::vector<std::size_t> counts{10, 1000};
        const auto steps = water_filling_steps(layers, counts, 0.1);
        CHECK(steps[1] == doctest::Approx(kLargestStepShare * 1e-4));
        CHECK(steps[0] > steps[1]);
        CHECK(noise_of(steps, counts) == doctest::Approx(0.1 * disagreement_of_all(layers, counts)));
    }

    TEST_CASE("no noise share makes steps larger than the updates themselves") {
        const std::vector<UpdateSpread> layers{{.range = 1, .rms = 0.1, .disagreement = 0.01},
                                               {.range = 1, .rms = 0.02, .disagreement = 0.0004}};
        const auto steps = water_filling_steps(layers, std::vector<std::size_t>{10, 10}, 100);
        CHECK(steps[0] == doctest::Approx(kLargestStepShare * 0.1));
        CHECK(steps[1] == doctest::Approx(kLargestStepShare * 0.02));
    }

    TEST_CASE("layers of which nothing is known have no step and take no part") {
        const std::vector<UpdateSpread> layers{
            {.range = 1, .rms = 0.1, .disagreement = 0.01}, {}, {.range = 0, .rms = 0, .disagreement = 0}};
        const auto steps = water_filling_steps(layers, std::vector<std::size_t>{10, 1000, 1000}, 0.06);
        CHECK(steps[0] == doctest::Approx(std::sqrt(6 * 0.06 * 0.01)));
        CHECK(steps[1] == 0);
        CHECK(steps[2] == 0);
        const double alone = water_filling_steps({{layers[0]}}, std::vector<std::size_t>{10}, 0.06)[0];
        CHECK(steps[0] == alone);
    }

    TEST_CASE("an unknown disagreement is taken as all of the update") {
        const std::vector<UpdateSpread> known{{.range = 1, .rms = 0.1, .disagreement = 0.1 * 0.1}};
        const std::vector<UpdateSpread> unknown{{.range = 1, .rms = 0.1}};
        const std::vector<std::size_t> counts{7};
        CHECK(water_filling_steps(unknown, counts, 0.05) == water_filling_steps(known, counts, 0.05));
    }

    TEST_CASE("no other split of the same noise takes fewer bits") {
        CHECK(rc::check([] {
            std::vector<UpdateSpread> layers;
            std::vector<std::size_t> counts;
            for (int i = 0; i < 3; ++i) {
                const double rms = *rc::gen::inRange(1, 1000) * 1e-3;
                layers.push_back({.range = 1, .rms = rms, .disagreement = rms * rms * *rc::gen::inRange(1, 10) / 10});
                counts.push_back(static_cast<std::size_t>(*rc::gen::inRange(1, 1000)));
            }
            const double share = *rc::gen::inRange(1, 200) * 1e-3;
            const auto steps = water_filling_steps(layers, counts, share);
            const double noise = noise_of(steps, counts);
            const double bits = bits_of(layers, steps, counts);
            // The steps of the first two layers on a grid; the third takes what noise they leave.
            for (double a = 0.05; a <= 1; a += 0.05)
                for (double b = 0.05; b <= 1; b += 0.05) {
                    std::vector<double> other{a * kLargestStepShare * layers[0].rms,
                                              b * kLargestStepShare * layers[1].rms, 0};
                    const double left = noise - noise_of(other, counts);
                    if (left <= 0)
                        continue;
                    other[2] = std::min(std::sqrt(6 * left / static_cast<double>(counts[2])),
                                        kLargestStepShare * layers[2].rms);
                    RC_ASSERT(bits_of(layers, other, counts) >= bits - 1e-9 * std::abs(bits) - 1e-9);
                }
        }));
    }

    TEST_CASE("disagreement is what the mean update lacks, and never nothing") {
        CHECK(disagreement_of(5, 3, 10) == doctest::Approx(16 * 10 / 9.0));
        CHECK(disagreement_of(5, 5, 10) == doctest::Approx(0.25));  // clients that agree
        CHECK(disagreement_of(5, 7, 10) == doctest::Approx(0.25));  // reports that the mean contradicts
        CHECK(disagreement_of(5, 3, 1) < 0);
        CHECK(disagreement_of(-1, 3, 10) < 0);
    }

    TEST_CASE("the bits of a coded value are near the entropy of its code, from coarse grids to fine ones") {
        for (const double step : {0.1, 0.3, 1.0, 2.0, 4.0, 8.0}) {
            CAPTURE(step);
            CHECK(coded_bits(1, step) == doctest::Approx(measured_entropy(step)).epsilon(0.15));
        }
        CHECK(coded_bits(0, 1) == 0);
        CHECK(std::isfinite(coded_bits(1e300, 1e-300)));
    }
}

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
