#include "core/noise/errors.hpp"

#include "core/config.hpp"
#include "core/error.hpp"

#include <doctest/doctest.h>
#include <cmath>
#include <numeric>
#include <vector>

using namespace dither;

namespace {

constexpr std::size_t kSamples = 200;
constexpr std::size_t kInputs = 500;

/// Standard normal inputs, which 8 bits round without regard to where they lie.
Dataset normal_data() {
    std::vector<float> values(kSamples * kInputs);
    Stream({.seed = 2, .purpose = Purpose::test}).fill_normal(values);
    return Dataset(Shape{1, kInputs}, std::move(values), std::vector<std::int32_t>(kSamples, 0), 2, {}, 2);
}

std::vector<LayerErrors> errors_at(int bits, std::int64_t max_batch = 64, float weight_scale = 1) {
    const auto backend = make_backend({});
    const auto model =
        make_model({.name = "linear"}, {}, {.sample = {1, kInputs}, .outputs = 2, .max_batch = max_batch}, *backend);
    Stream({.seed = 3, .purpose = Purpose::test}).fill_normal(model->parameters());
    for (float& parameter : model->parameters())
        parameter *= weight_scale;
    std::vector<std::uint32_t> indices(kSamples);
    std::iota(indices.begin(), indices.end(), 0U);
    return measure_errors(*model, normal_data(), indices, {}, bits);
}

double sum(const std::vector<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

TEST_SUITE("core/noise/errors") {
    TEST_CASE("fine rounding errors are uniform, which the distance to the Gaussian and the kurtosis show") {
        const std::vector<LayerErrors> layers = errors_at(8);
        REQUIRE(layers.size() == 1);
        CHECK(layers[0].layer == 0);
        CHECK(layers[0].name == "fc1");
        const ErrorDistribution& errors = layers[0].activations;
        CHECK(errors.count == kSamples * kInputs);
        CHECK(errors.standardized == errors.count);
        CHECK(std::abs(errors.mean) < 0.02 * errors.deviation);
        CHECK(std::abs(errors.skewness) < 0.02);
        CHECK(errors.excess_kurtosis == doctest::Approx(-1.2).epsilon(0.02));
        CHECK(errors.kolmogorov == doctest::Approx(0.0572).epsilon(0.1));  // of a uniform to a normal distribution
    }

    TEST_CASE("histograms share out all errors, and a uniform one ends at the root of 3") {
        const ErrorDistribution errors = errors_at(8)[0].activations;
        REQUIRE(errors.share.size() == kErrorBins + 2);
        REQUIRE(errors.normal_share.size() == kErrorBins + 2);
        CHECK(sum(errors.share) == doctest::Approx(1));
        CHECK(sum(errors.normal_share) == doctest::Approx(1));
        const double width = 2 * kErrorSpan / static_cast<double>(kErrorBins);
        CHECK(errors.normal_share[kErrorBins / 2] == doctest::Approx(width / std::sqrt(2 * 3.14159265)).epsilon(0.01));
        for (std::size_t i = 0; i < kErrorBins; ++i) {
            const double middle = std::abs((static_cast<double>(i) + 0.5) * width - kErrorSpan);
            if (middle + width < std::sqrt(3.0))
                CHECK(errors.share[i + 1] == doctest::Approx(width / std::sqrt(12.0)).epsilon(0.1));
            if (middle - width > std::sqrt(3.0))
                CHECK(errors.share[i + 1] == 0);
        }
    }

    TEST_CASE("errors halve with every bit") {
        const LayerErrors at_7 = errors_at(7)[0];
        const LayerErrors at_8 = errors_at(8)[0];
        CHECK(at_7.activation_error_rms / at_8.activation_error_rms == doctest::Approx(2).epsilon(0.05));
        CHECK(at_7.weight_error_rms / at_8.weight_error_rms == doctest::Approx(2).epsilon(0.1));
    }

    TEST_CASE("ratios compare the errors themselves, and what each does to the output") {
        const LayerErrors plain = errors_at(4)[0];
        const LayerErrors small = errors_at(4, 64, 0.01F)[0];
        CHECK(plain.activation_rms == doctest::Approx(1).epsilon(0.02));
        CHECK(plain.absolute_ratio == doctest::Approx(plain.activation_error_rms / plain.weight_error_rms));
        CHECK(small.absolute_ratio == doctest::Approx(100 * plain.absolute_ratio).epsilon(0.001));
        CHECK(small.relative_ratio == doctest::Approx(plain.relative_ratio).epsilon(0.001));
    }

    TEST_CASE("the measurement does not depend on the batch") {
        const LayerErrors whole = errors_at(3, 200)[0];
        const LayerErrors pieces = errors_at(3, 7)[0];
        CHECK(pieces.activations.share == whole.activations.share);
        CHECK(pieces.activations.kolmogorov == whole.activations.kolmogorov);
        CHECK(pieces.activation_error_rms == whole.activation_error_rms);
        CHECK(pieces.weights.share == whole.weights.share);
    }

    TEST_CASE("weights without any error are counted but not compared to a Gaussian") {
        const LayerErrors none = errors_at(4, 64, 0)[0];
        CHECK(none.weights.count == 2 * kInputs);
        CHECK(none.weights.standardized == 0);
        CHECK(none.weights.deviation == 0);
    }
}
