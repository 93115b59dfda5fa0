#include "core/noise/noise.hpp"

#include "core/config.hpp"
#include "core/error.hpp"

#include <doctest/doctest.h>
#include <cmath>
#include <vector>

using namespace dither;

namespace {

constexpr std::size_t kCount = 100'003;  // no multiple of any block

StreamKey key_of(std::uint32_t step, std::uint32_t layer) {
    return {.seed = 7, .purpose = Purpose::weight_noise, .client = 3, .round = 2, .step = step, .lane = layer};
}

std::vector<float> noise_of(const NoiseOptions& options, const StreamKey& key) {
    const std::vector<float> zeros(kCount, 0.0F);
    std::vector<float> out(kCount);
    make_noise(options)->perturb(zeros, out, key);
    return out;
}

struct Moments {
    double mean = 0;
    double deviation = 0;
};

Moments moments_of(const std::vector<float>& values) {
    double sum = 0;
    double squares = 0;
    for (const double value : values) {
        sum += value;
        squares += value * value;
    }
    const double mean = sum / static_cast<double>(values.size());
    return {mean, std::sqrt(squares / static_cast<double>(values.size()) - mean * mean)};
}

double correlation(const std::vector<float>& a, const std::vector<float>& b) {
    double product = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        product += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    return product / (static_cast<double>(a.size()) * moments_of(a).deviation * moments_of(b).deviation);
}

// Five standard errors of a mean, a deviation and a correlation over kCount samples.
const double kMeanTolerance = 5 / std::sqrt(static_cast<double>(kCount));

}  // namespace

TEST_SUITE("core/noise/noise") {
    TEST_CASE("no noise is no object") {
        CHECK(make_noise({.kind = "none"}) == nullptr);
    }

    TEST_CASE("an unknown kind is named") {
        CHECK_THROWS_WITH_AS(make_noise({.kind = "pink"}), doctest::Contains("pink"), InputError);
    }

    TEST_CASE("gaussian noise has mean 0 and the standard deviation of the job") {
        const Moments found = moments_of(noise_of({.kind = "gaussian", .sigma = 0.25}, key_of(0, 0)));
        CHECK(std::abs(found.mean) < 0.25 * kMeanTolerance);
        CHECK(std::abs(found.deviation / 0.25 - 1) < kMeanTolerance);
    }

    TEST_CASE("xi noise has the standard deviation 4/3 * 1e-4 * xi_scaling") {
        const Moments found = moments_of(noise_of({.kind = "xi", .xi_scaling = 80000}, key_of(0, 0)));
        CHECK(std::abs(found.deviation / 10.6666667 - 1) < kMeanTolerance);
    }

    TEST_CASE("noise adds to the parameters, in place too") {
        const NoiseOptions options{.kind = "gaussian", .sigma = 0.5};
        const std::vector<float> noise = noise_of(options, key_of(4, 1));
        std::vector<float> w(kCount);
        for (std::size_t i = 0; i < kCount; ++i)
            w[i] = static_cast<float>(i % 17);
        std::vector<float> expected(kCount);
        for (std::size_t i = 0; i < kCount; ++i)
            expected[i] = w[i] + noise[i];
        make_noise(options)->perturb(w, w, key_of(4, 1));
        CHECK(w == expected);
    }

    TEST_CASE("the same key gives the same noise, another step or layer an independent one") {
        const NoiseOptions options{.kind = "gaussian", .sigma = 1};
        const std::vector<float> noise = noise_of(options, key_of(1, 1));
        CHECK(noise == noise_of(options, key_of(1, 1)));
        CHECK(std::abs(correlation(noise, noise_of(options, key_of(2, 1)))) < kMeanTolerance);
        CHECK(std::abs(correlation(noise, noise_of(options, key_of(1, 2)))) < kMeanTolerance);
    }

    TEST_CASE("a prefix of the parameters gets the prefix of the noise") {
        const NoiseOptions options{.kind = "gaussian", .sigma = 1};
        const std::vector<float> all = noise_of(options, key_of(1, 1));
        std::vector<float> prefix(2048, 0.0F);
        make_noise(options)->perturb(prefix, prefix, key_of(1, 1));
        CHECK(std::equal(prefix.begin(), prefix.end(), all.begin()));
    }
}
