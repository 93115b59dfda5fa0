#include "core/noise/noise.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "tests/unit/core/noise/samples.hpp"

#include <doctest/doctest.h>
#include <cmath>
#include <string>
#include <vector>

using namespace dither;

namespace {

constexpr std::size_t kChannels = 7;
constexpr std::size_t kCount = kChannels * 14'287;  // no multiple of any block
const StreamKey kKey{.seed = 7, .purpose = Purpose::weight_noise, .client = 3, .round = 2, .step = 5, .lane = 1};

/// The same in every channel.
LayerProfile profile_of(float mean, float deviation, float step) {
    return {.weight_mean = std::vector<float>(kChannels, mean),
            .weight_deviation = std::vector<float>(kChannels, deviation),
            .weight_step = std::vector<float>(kChannels, step)};
}

NoiseSite site_of(const LayerProfile& profile, float strength = 1) {
    return {.weights = kCount, .channels = kChannels, .profile = &profile, .strength = strength};
}

std::vector<float> noise_of(const NoiseOptions& options, const StreamKey& key, float strength = 1) {
    const LayerProfile profile = profile_of(0.3F, 0.5F, 0.25F);
    const std::vector<float> zeros(kCount, 0.0F);
    std::vector<float> out(kCount);
    make_noise(options)->perturb(zeros, site_of(profile, strength), out, key);
    return out;
}

const std::vector<NoiseOptions> kKinds{{.kind = "gaussian", .sigma = 0.5},
                                       {.kind = "xi", .xi_scaling = 4000},
                                       {.kind = "differential"},
                                       {.kind = "naive"},
                                       {.kind = "dither"}};
const double kTolerance = tolerance(kCount);

}  // namespace

TEST_SUITE("core/noise/noise") {
    TEST_CASE("no noise is no object") {
        CHECK(make_noise({.kind = "none"}) == nullptr);
    }

    TEST_CASE("an unknown kind is named") {
        CHECK_THROWS_WITH_AS(make_noise({.kind = "pink"}), doctest::Contains("pink"), InputError);
    }

    TEST_CASE("gaussian noise has mean 0 and the standard deviation of the job") {
        const Moments found = moments_of(noise_of({.kind = "gaussian", .sigma = 0.25}, kKey));
        CHECK(std::abs(found.mean) < 0.25 * kTolerance);
        CHECK(std::abs(found.deviation / 0.25 - 1) < kTolerance);
    }

    TEST_CASE("xi noise has the standard deviation 4/3 * 1e-4 * xi_scaling") {
        const Moments found = moments_of(noise_of({.kind = "xi", .xi_scaling = 80000}, kKey));
        CHECK(std::abs(found.deviation / 10.6666667 - 1) < kTolerance);
    }

    TEST_CASE("noise adds to the parameters, in place too") {
        std::vector<float> w(kCount);
        for (std::size_t i = 0; i < kCount; ++i)
            w[i] = static_cast<float>(i % 17);
        const LayerProfile profile = profile_of(0.3F, 0.5F, 0.25F);
        for (const NoiseOptions& options : kKinds) {
            CAPTURE(options.kind);
            const std::vector<float> noise = noise_of(options, kKey);
            std::vector<float> apart(kCount);
            make_noise(options)->perturb(w, site_of(profile), apart, kKey);
            for (std::size_t i = 0; i < kCount; ++i)
                REQUIRE(apart[i] == w[i] + noise[i]);
            std::vector<float> in_place = w;
            make_noise(options)->perturb(in_place, site_of(profile), in_place, kKey);
            CHECK(in_place == apart);
        }
    }

    TEST_CASE("the same key gives the same noise; another client, round, step or layer an independent one") {
        StreamKey client = kKey;
        StreamKey round = kKey;
        StreamKey step = kKey;
        StreamKey layer = kKey;
        ++client.client;
        ++round.round;
        ++step.step;
        ++layer.lane;
        for (const NoiseOptions& options : kKinds) {
            CAPTURE(options.kind);
            const std::vector<float> noise = noise_of(options, kKey);
            CHECK(noise == noise_of(options, kKey));
            for (const StreamKey& other : {client, round, step, layer})
                CHECK(std::abs(correlation(noise, noise_of(options, other))) < kTolerance);
        }
    }

    TEST_CASE("neighbouring weights get independent noise") {
        for (const NoiseOptions& options : kKinds) {
            CAPTURE(options.kind);
            const std::vector<float> noise = noise_of(options, kKey);
            for (const std::size_t lag : {1UL, 2UL, 4UL, kChannels, 1024UL}) {
                const std::span<const float> all(noise);
                CHECK(std::abs(correlation(all.first(kCount - lag), all.subspan(lag))) < 1.1 * kTolerance);
            }
        }
    }

    TEST_CASE("strength is a factor on the noise") {
        for (const NoiseOptions& options : kKinds) {
            CAPTURE(options.kind);
            const std::vector<float> whole = noise_of(options, kKey);
            const std::vector<float> quarter = noise_of(options, kKey, 0.25F);
            for (std::size_t i = 0; i < kCount; ++i)
                REQUIRE(quarter[i] == doctest::Approx(0.25F * whole[i]).epsilon(1e-6));
        }
    }

    TEST_CASE("without strength the parameters keep their bits") {
        const std::vector<float> w{0.0F, -0.0F, 1.5F, -1e-40F, 3e38F};
        for (const NoiseOptions& options : kKinds) {
            CAPTURE(options.kind);
            std::vector<float> out(w.size(), 7.0F);
            make_noise(options)->perturb(w, {.weights = 4, .channels = 2, .strength = 0}, out, kKey);
            CHECK(out == w);
            CHECK(std::signbit(out[1]));
        }
    }

    TEST_CASE("a prefix of the parameters gets the prefix of the noise") {
        const NoiseOptions options{.kind = "gaussian", .sigma = 1};
        const std::vector<float> all = noise_of(options, kKey);
        std::vector<float> prefix(2048, 0.0F);
        make_noise(options)->perturb(prefix, {}, prefix, kKey);
        CHECK(std::equal(prefix.begin(), prefix.end(), all.begin()));
    }
}
