#include "core/config.hpp"
#include "core/error.hpp"
#include "core/noise/noise.hpp"
#include "tests/unit/core/noise/samples.hpp"

#include <doctest/doctest.h>
#include <algorithm>
#include <cmath>
#include <vector>

using namespace dither;

namespace {

constexpr std::size_t kRows = 50'000;
const StreamKey kKey{.seed = 11, .purpose = Purpose::weight_noise, .client = 1, .round = 4, .step = 9, .lane = 2};

/// Channel c has its own mean, deviation and step.
LayerProfile varied_profile(std::size_t channels) {
    LayerProfile profile;
    for (std::size_t c = 0; c < channels; ++c) {
        const float size = 0.01F * static_cast<float>(c + 1);
        profile.weight_mean.push_back(c % 2 == 0 ? size : -size);
        profile.weight_deviation.push_back(2 * size);
        profile.weight_step.push_back(5 * size);
    }
    return profile;
}

/// [channels][rows] of the noise on weights that are 0.
std::vector<std::vector<float>> noise_by_channel(const char* kind, const LayerProfile& profile, std::size_t rows) {
    const std::size_t channels = profile.weight_mean.size();
    std::vector<float> w(rows * channels, 0.0F);
    make_noise({.kind = kind})->perturb(w, {.weights = w.size(), .channels = channels, .profile = &profile}, w, kKey);
    std::vector<std::vector<float>> result(channels);
    for (std::size_t i = 0; i < w.size(); ++i)
        result[i % channels].push_back(w[i]);
    return result;
}

/// Where SGD on (w - 1)^2 / 2, whose gradient is taken at the noisy w, comes to rest: the mean over the second half of
/// the steps and all the weights.
double resting_place(const char* kind, const LayerProfile& profile) {
    constexpr std::size_t kWeights = 64;
    constexpr std::uint32_t kSteps = 2000;
    const auto noise = make_noise({.kind = kind});
    const NoiseSite site{.weights = kWeights, .channels = profile.weight_mean.size(), .profile = &profile};
    std::vector<float> w(kWeights, 0.0F);
    std::vector<float> noisy(kWeights);
    double sum = 0;
    for (std::uint32_t step = 0; step < kSteps; ++step) {
        StreamKey key = kKey;
        key.step = step;
        noise->perturb(w, site, noisy, key);
        for (std::size_t i = 0; i < kWeights; ++i) {
            w[i] -= 0.05F * (noisy[i] - 1);
            sum += step >= kSteps / 2 ? static_cast<double>(w[i]) : 0.0;
        }
    }
    return sum / (kSteps / 2 * kWeights);
}

}  // namespace

TEST_SUITE("core/noise/profiled") {
    TEST_CASE("differential noise has no mean and twice the variance of each channel's errors") {
        const LayerProfile profile = varied_profile(5);
        const auto noise = noise_by_channel("differential", profile, kRows);
        for (std::size_t c = 0; c < 5; ++c) {
            const double expected = std::sqrt(2.0) * static_cast<double>(profile.weight_deviation[c]);
            const Moments found = moments_of(noise[c]);
            CHECK(std::abs(found.mean) < expected * tolerance(kRows));
            CHECK(std::abs(found.deviation / expected - 1) < tolerance(kRows));
        }
    }

    TEST_CASE("naive noise has the mean and the variance of each channel's errors") {
        const LayerProfile profile = varied_profile(5);
        const auto noise = noise_by_channel("naive", profile, kRows);
        for (std::size_t c = 0; c < 5; ++c) {
            const double expected = static_cast<double>(profile.weight_deviation[c]);
            const Moments found = moments_of(noise[c]);
            CHECK(std::abs(found.mean - static_cast<double>(profile.weight_mean[c])) < expected * tolerance(kRows));
            CHECK(std::abs(found.deviation / expected - 1) < tolerance(kRows));
        }
    }

    TEST_CASE("dither is uniform over one step of each channel") {
        const LayerProfile profile = varied_profile(5);
        const auto noise = noise_by_channel("dither", profile, kRows);
        for (std::size_t c = 0; c < 5; ++c) {
            const float step = profile.weight_step[c];
            std::vector<float> sorted = noise[c];
            std::ranges::sort(sorted);
            CHECK(sorted.front() >= -0.5F * step);
            CHECK(sorted.back() <= 0.5F * step);
            double distance = 0;  // of the distribution functions; 1.95 / sqrt(n) is passed once in a thousand samples
            for (std::size_t i = 0; i < kRows; ++i)
                distance = std::max(distance, std::abs(static_cast<double>(sorted[i] / step) + 0.5 -
                                                       (static_cast<double>(i) + 0.5) / static_cast<double>(kRows)));
            CHECK(distance < 1.95 / std::sqrt(static_cast<double>(kRows)));
        }
    }

    TEST_CASE("every weight gets the noise of its own channel, however many channels there are") {
        for (const std::size_t channels : {1UL, 3UL, 64UL, 1000UL, 1024UL, 1025UL, 3001UL}) {
            LayerProfile profile;
            for (std::size_t c = 0; c < channels; ++c)
                profile.weight_mean.push_back(static_cast<float>(c + 1));
            profile.weight_deviation.assign(channels, 0.0F);  // the noise is the mean
            profile.weight_step.assign(channels, 0.0F);
            const auto noise = noise_by_channel("naive", profile, 5);
            for (std::size_t c = 0; c < channels; ++c)
                for (const float value : noise[c])
                    REQUIRE(value == static_cast<float>(c + 1));
        }
    }

    TEST_CASE("biases are left alone") {
        const LayerProfile profile = varied_profile(3);
        for (const char* kind : {"differential", "naive", "dither"}) {
            CAPTURE(kind);
            std::vector<float> w(15, 1.0F);
            make_noise({.kind = kind})->perturb(w, {.weights = 12, .channels = 3, .profile = &profile}, w, kKey);
            CHECK(std::count(w.begin(), w.begin() + 12, 1.0F) == 0);
            CHECK(std::count(w.begin() + 12, w.end(), 1.0F) == 3);
        }
    }

    TEST_CASE("a profile that is missing or of another layer is refused") {
        const LayerProfile profile = varied_profile(3);
        std::vector<float> w(8);
        const auto noise = make_noise({.kind = "differential"});
        CHECK_THROWS_AS(noise->perturb(w, {.weights = 8, .channels = 4}, w, kKey), PreconditionError);
        CHECK_THROWS_AS(noise->perturb(w, {.weights = 8, .channels = 4, .profile = &profile}, w, kKey),
                        PreconditionError);
    }

    TEST_CASE("naive noise moves a minimum by its mean, differential noise leaves it where it is") {
        const LayerProfile profile{
            .weight_mean = {0.2F, 0.2F}, .weight_deviation = {0.3F, 0.3F}, .weight_step = {1, 1}};
        CHECK(resting_place("naive", profile) == doctest::Approx(1 - 0.2).epsilon(0.01));
        CHECK(resting_place("differential", profile) == doctest::Approx(1).epsilon(0.01));
        CHECK(resting_place("dither", profile) == doctest::Approx(1).epsilon(0.01));
    }
}
