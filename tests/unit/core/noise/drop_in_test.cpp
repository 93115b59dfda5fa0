#include "core/error.hpp"
#include "core/noise/noise.hpp"
#include "tests/unit/core/noise/samples.hpp"

#include <doctest/doctest.h>
#include <cmath>
#include <vector>

using namespace dither;

namespace {

constexpr std::size_t kCount = 100'003;
const StreamKey kKey{
    .seed = 5, .purpose = Purpose::activation_noise, .client = 2, .round = 3, .step = 4, .lane = 65536};
const LayerProfile kProfile{.weight_mean = {0},
                            .weight_deviation = {0},
                            .weight_step = {1},
                            .activation_mean = 0.5F,
                            .activation_deviation = 2};

std::vector<float> noise_of(float share, float strength = 1, const StreamKey& key = kKey) {
    std::vector<float> x(kCount, 0.0F);
    drop_in(x, x, kProfile, share, strength, key);
    return x;
}

std::vector<float> hits_of(std::span<const float> noise) {
    std::vector<float> hits;
    for (const float value : noise)
        if (value != 0)
            hits.push_back(value);
    return hits;
}

}  // namespace

TEST_SUITE("core/noise/drop_in") {
    TEST_CASE("the share of activations with noise is the job's, and their noise has the profile's moments") {
        for (const float share : {0.1F, 0.5F, 1.0F}) {
            CAPTURE(share);
            const std::vector<float> hits = hits_of(noise_of(share));
            const double p = static_cast<double>(share);
            const double n = static_cast<double>(kCount);
            CHECK(std::abs(static_cast<double>(hits.size()) - n * p) <= 5 * std::sqrt(n * p * (1 - p)));
            const Moments found = moments_of(hits);
            CHECK(std::abs(found.mean - 0.5) < 2 * tolerance(hits.size()));
            CHECK(std::abs(found.deviation / 2 - 1) < tolerance(hits.size()));
        }
    }

    TEST_CASE("strength is a factor on the noise, not on its share") {
        const std::vector<float> whole = noise_of(0.3F);
        const std::vector<float> half = noise_of(0.3F, 0.5F);
        for (std::size_t i = 0; i < kCount; ++i)
            REQUIRE(half[i] == doctest::Approx(0.5F * whole[i]).epsilon(1e-6));
    }

    TEST_CASE("what gets no noise keeps its bits") {
        const std::vector<float> x{-0.0F, 1e-40F, 1.0F};
        std::vector<float> out(3, 7.0F);
        drop_in(x, out, kProfile, 0, 1, kKey);
        CHECK(out == x);
        CHECK(std::signbit(out[0]));
        drop_in(x, out, {}, 0.5F, 0, kKey);
        CHECK(out == x);
        std::vector<float> zeros(kCount, -0.0F);
        drop_in(zeros, zeros, kProfile, 0.5F, 1, kKey);
        std::size_t kept = 0;
        for (const float value : zeros)
            kept += value == 0 && std::signbit(value) ? 1U : 0U;
        CHECK(kept == doctest::Approx(kCount / 2).epsilon(0.02));
    }

    TEST_CASE("noise adds to the activations, in place too") {
        std::vector<float> x(kCount);
        for (std::size_t i = 0; i < kCount; ++i)
            x[i] = static_cast<float>(i % 17);
        const std::vector<float> noise = noise_of(0.5F);
        std::vector<float> apart(kCount);
        drop_in(x, apart, kProfile, 0.5F, 1, kKey);
        for (std::size_t i = 0; i < kCount; ++i)
            REQUIRE(apart[i] == x[i] + noise[i]);
        drop_in(x, x, kProfile, 0.5F, 1, kKey);
        CHECK(x == apart);
    }

    TEST_CASE("the same key gives the same noise; another client, round, step or layer an independent one") {
        const std::vector<float> noise = noise_of(0.5F);
        CHECK(noise == noise_of(0.5F));
        StreamKey client = kKey;
        StreamKey round = kKey;
        StreamKey step = kKey;
        StreamKey layer = kKey;
        ++client.client;
        ++round.round;
        ++step.step;
        ++layer.lane;
        for (const StreamKey& other : {client, round, step, layer})
            CHECK(std::abs(correlation(noise, noise_of(0.5F, 1, other))) < tolerance(kCount));
    }

    TEST_CASE("a missing profile and a share beyond 1 are refused") {
        std::vector<float> x(4);
        CHECK_THROWS_AS(drop_in(x, x, {}, 0.5F, 1, kKey), PreconditionError);
        CHECK_THROWS_AS(drop_in(x, x, kProfile, 1.5F, 1, kKey), PreconditionError);
    }
}
