#include "aggregator/update_grid.hpp"

#include "aggregator/detail/state_reader.hpp"
#include "core/precision/plan.hpp"
#include "core/rng.hpp"
#include "tests/unit/aggregator/fixtures.hpp"

#include <cmath>
#include <map>

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

TEST_SUITE("aggregator/update_grid: water-filling") {
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

namespace {

/// fc of 10,000 parameters and a norm of two tensors of 10.
Schema with_norm() {
    LayerSpec norm{.name = "norm1", .offset = 10000, .count = 20, .tensors = {}};
    norm.tensors = {{"scale", Shape{10}, 10000}, {"variance", Shape{10}, 10010}};
    return Schema({test::layer("fc1", 0, 10000), norm});
}

std::vector<float> moved_by(double products, double scale, double variance) {
    std::vector<float> values(10020);
    Stream(StreamKey{.purpose = Purpose::test}).fill_normal(values);
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] *= static_cast<float>(i < 10000 ? products : i < 10010 ? scale : variance);
    return values;
}

}  // namespace

TEST_SUITE("aggregator/update_grid") {
    TEST_CASE("the step is moved until a payload takes the bits that were asked for, however the updates shrink") {
        const Schema schema = with_norm();
        for (const double rate : {0.05, 0.25, 1.0, 4.0}) {
            UpdateGrid grid({.kind = "grid", .rate = rate}, schema);
            double rms = 0.1;
            double bits = 0;
            for (int round = 0; round < 12; ++round, rms *= 0.9) {
                const auto spread = spread_of(schema, moved_by(rms, rms, rms));
                grid.aim(spread, 0.05);
                grid.choose(1);
                // A coder that takes four fifths of what bell-shaped values would, and a norm that takes its own.
                bits = 0.8 * coded_bits(rms, grid.steps()[0]);
                const double norm = 20 * coded_bits(spread[1].rms, grid.steps()[1]);
                grid.learn(spread, (10000 * bits + norm) / 8);
            }
            CHECK(bits == doctest::Approx(rate).epsilon(0.02));
        }
    }

    TEST_CASE("a rate has one step for all layers with products, however little one moves") {
        const Schema schema({test::layer("fc1", 0, 5000), test::layer("fc2", 5000, 5020)});
        std::vector<float> values = moved_by(0.1, 0.1, 0.1);
        for (std::size_t i = 0; i < 5000; ++i)
            values[i] *= 1e-3F;
        UpdateGrid grid({.kind = "grid", .rate = 0.1}, schema);
        grid.aim(spread_of(schema, values), 0.05);
        grid.choose(1);
        CHECK(grid.steps()[0] == grid.steps()[1]);
        CHECK(grid.steps()[0] > 0.1F);
    }

    TEST_CASE("a norm's step is made for the tensor that moved least, if any, and others ignore it") {
        const Schema schema = with_norm();
        UpdateGrid grid({.kind = "grid"}, schema);
        const auto spread = spread_of(schema, moved_by(0.1, 0.001, 10));
        grid.aim(spread, 0.05);
        grid.choose(1);
        CHECK(grid.steps()[1] == doctest::Approx(0.25 * spread[1].least_rms));
        CHECK(spread[1].least_rms == doctest::Approx(0.001).epsilon(0.5));
        const float before = grid.steps()[0];
        grid.aim(spread_of(schema, moved_by(0.1, 0, 100)), 0.05);
        grid.choose(1);
        CHECK(grid.steps()[0] == before);
        CHECK(grid.steps()[1] > 10);
    }

    TEST_CASE("a norm's step is never so small that its largest value could not be said") {
        const Schema schema = with_norm();
        UpdateGrid grid({.kind = "grid"}, schema);
        grid.aim(spread_of(schema, moved_by(0.1, 1e-11, 10)), 0.05);
        grid.choose(1);
        CHECK(grid.steps()[1] > 1e-6F);
    }

    TEST_CASE("widths that others rule survive a restart") {
        const Schema schema = with_norm();
        UpdateGrid one({.kind = "grid"}, schema);
        one.aim(spread_of(schema, moved_by(0.1, 0.2, 0.3)), 0.05, std::array{9, 9});
        one.choose(1);
        std::vector<double> state;
        one.append_state(state);
        UpdateGrid other({.kind = "grid"}, schema);
        StateReader reader(state);
        other.restore(reader);
        other.choose(1);
        CHECK(other.width(0) == 9);
    }

    TEST_CASE("what did not move keeps its step") {
        const Schema schema = with_norm();
        UpdateGrid grid({.kind = "grid", .rate = 1}, schema);
        grid.aim(spread_of(schema, moved_by(0.1, 0.1, 0.1)), 0.05);
        grid.choose(1);
        const std::vector<float> before(grid.steps().begin(), grid.steps().end());
        grid.aim(spread_of(schema, moved_by(0, 0, 0)), 0.05);
        grid.choose(1);
        CHECK(std::ranges::equal(before, grid.steps()));
        CHECK(grid.width(0) == 2);
    }

    TEST_CASE("a codec without a grid has steps of 1 and 32 bits") {
        const Schema schema = with_norm();
        UpdateGrid grid({.kind = "raw"}, schema);
        grid.aim(spread_of(schema, moved_by(0.1, 0.1, 0.1)), 0.05);
        CHECK_FALSE(grid.choose(8));
        CHECK(grid.steps()[0] == 1);
        CHECK(grid.width(0) == kFullBits);
        CHECK(grid.expected_bytes() == 4 * 10020);
        grid.learn(grid.spread(), 700);
        CHECK(grid.expected_bytes() == 700);
    }

    TEST_CASE("a restored grid goes on as the interrupted one would have") {
        const Schema schema = with_norm();
        UpdateGrid one({.kind = "grid", .rate = 0.5}, schema);
        const auto spread = spread_of(schema, moved_by(0.1, 0.2, 0.3));
        one.aim(spread, 0.05);
        one.choose(1);
        one.learn(spread, 900);
        std::vector<double> state;
        one.append_state(state);
        UpdateGrid other({.kind = "grid", .rate = 0.5}, schema);
        StateReader reader(state);
        other.restore(reader);
        CHECK(reader.rest().empty());
        other.choose(1);
        CHECK(one.width(0) == other.width(0));
        for (UpdateGrid* grid : {&one, &other}) {
            grid->aim(spread, 0.05);
            grid->choose(1.5);
        }
        CHECK(std::ranges::equal(one.steps(), other.steps()));
        CHECK(one.expected_bytes() == other.expected_bytes());
    }
}
