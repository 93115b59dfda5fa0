#include "core/noise/profiler.hpp"

#include "core/error.hpp"
#include "tests/unit/core/noise/samples.hpp"
#include "tests/unit/made_up_data.hpp"

#include <doctest/doctest.h>
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

using namespace dither;

namespace {

constexpr std::size_t kSamples = 60;
constexpr std::size_t kInputs = 4;
constexpr std::size_t kHidden = 6;
const StreamKey kKey{.seed = 3, .purpose = Purpose::shuffle, .client = 5, .round = 2, .step = 0};

std::unique_ptr<Model> small_model(std::int64_t max_batch, const QuantizeOptions& quantize = {}) {
    static const auto backend = make_backend({});
    auto model = make_model({.name = "mlp", .hidden = {kHidden}}, quantize,
                            {.sample = {1, kInputs}, .outputs = 2, .max_batch = max_batch}, *backend);
    model->initialize(4);
    return model;
}

std::vector<std::uint32_t> first(std::size_t count) {
    std::vector<std::uint32_t> indices(count);
    std::iota(indices.begin(), indices.end(), 0U);
    return indices;
}

NoiseOptions options_of(int bits, std::uint32_t calibration = kSamples) {
    return {.kind = "differential", .bits = bits, .calibration = calibration};
}

std::vector<LayerProfile> profiles_of(const NoiseOptions& options, Model& model, const QuantizeOptions& quantize = {},
                                      const StreamKey& key = kKey) {
    NoiseProfiler profiler(options, quantize, model);
    profiler.measure(model, two_blobs(kSamples), first(kSamples), key);
    return {profiler.profiles().begin(), profiler.profiles().end()};
}

/// x^ - x on the symmetric codes of `bits` that cover the values.
std::vector<float> symmetric_errors(std::span<const float> x, int bits, float& step) {
    float largest = 0;
    for (const float value : x)
        largest = std::max(largest, std::abs(value));
    step = largest / static_cast<float>((1 << (bits - 1)) - 1);
    std::vector<float> errors;
    for (const float value : x)
        errors.push_back(step * std::nearbyint(value / step) - value);
    return errors;
}

/// The same on affine codes.
std::vector<float> affine_errors(std::span<const float> x, int bits, float& step) {
    float low = 0;
    float high = 0;
    for (const float value : x) {
        low = std::min(low, value);
        high = std::max(high, value);
    }
    const auto last = static_cast<float>((1 << bits) - 1);
    step = (high - low) / last;
    const float zero = std::nearbyint(-low / step);
    std::vector<float> errors;
    for (const float value : x)
        errors.push_back(step * (std::clamp(std::nearbyint(value / step) + zero, 0.0F, last) - zero) - value);
    return errors;
}

std::vector<float> column(std::span<const float> values, std::size_t c, std::size_t columns) {
    std::vector<float> result;
    for (std::size_t i = c; i < values.size(); i += columns)
        result.push_back(values[i]);
    return result;
}

/// relu(x w + b) for all samples.
std::vector<float> hidden_values(Model& model) {
    Batch batch;
    two_blobs(kSamples).gather(first(kSamples), batch);
    const std::span<const float> parameters = model.parameters();
    std::vector<float> hidden;
    for (std::size_t s = 0; s < kSamples; ++s)
        for (std::size_t h = 0; h < kHidden; ++h) {
            double sum = static_cast<double>(parameters[kInputs * kHidden + h]);
            for (std::size_t i = 0; i < kInputs; ++i)
                sum += static_cast<double>(batch.inputs.data()[s * kInputs + i]) *
                       static_cast<double>(parameters[i * kHidden + h]);
            hidden.push_back(static_cast<float>(std::max(sum, 0.0)));
        }
    return hidden;
}

void check_moments(float mean, float deviation, float step, const std::vector<float>& errors, float expected_step) {
    const Moments expected = moments_of(errors);
    const double tolerance = 2e-3 * static_cast<double>(expected_step);  // a value in the middle may go either way
    CHECK(step == doctest::Approx(expected_step).epsilon(1e-5));
    CHECK(std::abs(static_cast<double>(mean) - expected.mean) < tolerance);
    CHECK(std::abs(static_cast<double>(deviation) - expected.deviation) < tolerance);
}

}  // namespace

TEST_SUITE("core/noise/profiler") {
    TEST_CASE("profiles hold the moments of the rounding errors of weights, by channel, and of inputs") {
        const auto model = small_model(16);
        const auto hidden = hidden_values(*model);
        Batch batch;
        two_blobs(kSamples).gather(first(kSamples), batch);
        for (const int bits : {2, 4, 8}) {
            CAPTURE(bits);
            const std::vector<LayerProfile> profiles = profiles_of(options_of(bits), *model);
            REQUIRE(profiles.size() == 2);
            const std::size_t channels[] = {kHidden, 2};
            const std::span<const float> inputs[] = {batch.inputs.values(), hidden};
            for (std::size_t layer = 0; layer < 2; ++layer) {
                const LayerProfile& p = profiles[layer];
                REQUIRE(p.weight_mean.size() == channels[layer]);
                const TensorSpec& weight = model->schema().layers()[layer].tensors[0];
                const auto w =
                    model->parameters().subspan(weight.offset, static_cast<std::size_t>(weight.shape.count()));
                float step = 0;
                for (std::size_t c = 0; c < channels[layer]; ++c) {
                    const auto errors = symmetric_errors(column(w, c, channels[layer]), bits, step);
                    check_moments(p.weight_mean[c], p.weight_deviation[c], p.weight_step[c], errors, step);
                }
                const auto errors = affine_errors(inputs[layer], bits, step);
                check_moments(p.activation_mean, p.activation_deviation, p.activation_step, errors, step);
            }
        }
    }

    TEST_CASE("profiles do not depend on the batch in which they are measured") {
        const NoiseOptions options = options_of(4, 50);
        const auto whole = profiles_of(options, *small_model(64));
        for (const std::int64_t batch : {1, 7, 16})
            CHECK(profiles_of(options, *small_model(batch)) == whole);
    }

    TEST_CASE("the calibration set is drawn by the key") {
        const auto model = small_model(16);
        const NoiseOptions few = options_of(4, 10);
        const auto profiles = profiles_of(few, *model);
        CHECK(profiles_of(few, *model) == profiles);
        StreamKey epoch = kKey;
        ++epoch.step;
        const auto others = profiles_of(few, *model, {}, epoch);
        CHECK(others != profiles);
        CHECK(others[0].weight_deviation == profiles[0].weight_deviation);  // the weights need no samples
    }

    TEST_CASE("means, variances and steps follow a moving average that begins anew with each client") {
        const auto model = small_model(16);
        NoiseOptions options = options_of(3);
        options.smoothing = 0.75;
        const LayerProfile early = profiles_of(options, *model)[1];
        NoiseProfiler profiler(options, {}, *model);
        const Dataset data = two_blobs(kSamples);
        const std::vector<std::uint32_t> indices = first(kSamples);
        profiler.measure(*model, data, indices, kKey);
        for (float& parameter : model->parameters())
            parameter *= 3;
        profiler.measure(*model, data, indices, kKey);
        const LayerProfile late = profiles_of(options, *model)[1];
        const LayerProfile& mixed = profiler.profiles()[1];
        const auto mix = [](float past, float now) { return 0.75F * past + 0.25F * now; };
        const auto mix_squares = [&](float past, float now) { return std::sqrt(mix(past * past, now * now)); };
        REQUIRE(late.weight_step[0] > 2 * early.weight_step[0]);
        CHECK(mixed.weight_mean[1] == doctest::Approx(mix(early.weight_mean[1], late.weight_mean[1])));
        CHECK(mixed.weight_deviation[1] ==
              doctest::Approx(mix_squares(early.weight_deviation[1], late.weight_deviation[1])));
        CHECK(mixed.weight_step[0] == doctest::Approx(mix(early.weight_step[0], late.weight_step[0])));
        CHECK(mixed.activation_mean == doctest::Approx(mix(early.activation_mean, late.activation_mean)));
        CHECK(mixed.activation_deviation ==
              doctest::Approx(mix_squares(early.activation_deviation, late.activation_deviation)));

        profiler.begin();
        CHECK(profiler.profiles()[1].empty());
        profiler.measure(*model, data, indices, kKey);
        CHECK(profiler.profiles()[1] == late);
    }

    TEST_CASE("a calibration set larger than the client's data is named with the client and both numbers") {
        const auto model = small_model(16);
        NoiseProfiler profiler(options_of(4, 61), {}, *model);
        try {
            profiler.measure(*model, two_blobs(kSamples), first(kSamples), kKey);
            FAIL("60 samples are no 61");
        } catch (const InputError& error) {
            const std::string message = error.what();
            for (const char* part : {"noise.calibration", "61 samples", "client 5 has 60"})
                CHECK(message.find(part) != std::string::npos);
        }
        CHECK_NOTHROW(check_calibration(options_of(4, 60), 5, 60));
        CHECK_NOTHROW(check_calibration({.kind = "gaussian"}, 5, 1));
        CHECK_THROWS_AS(check_calibration({.kind = "gaussian", .drop_in = 0.1}, 5, 1), InputError);
    }

    TEST_CASE("a partition with a client that is too small is refused") {
        const Partition partition({{0, 1, 2, 3, 4, 5}, {6, 7, 8, 9}});
        CHECK_NOTHROW(check_calibration(options_of(4, 4), partition, 0));
        CHECK_THROWS_WITH_AS(check_calibration(options_of(4, 5), partition, 0), doctest::Contains("client 1 has 4"),
                             InputError);
        CHECK_THROWS_WITH_AS(check_calibration(options_of(4, 4), partition, 0.25), doctest::Contains("client 1 has 3"),
                             InputError);
    }

    TEST_CASE("only profiled noise and drop-in need profiles") {
        CHECK_FALSE(needs_profiles({.kind = "none"}));
        CHECK_FALSE(needs_profiles({.kind = "xi"}));
        CHECK(needs_profiles({.kind = "naive"}));
        CHECK(needs_profiles({.kind = "dither"}));
        CHECK(needs_profiles({.kind = "none", .drop_in = 0.5}));
    }

    TEST_CASE("measuring changes nothing in the model") {
        const auto model = small_model(16);
        const std::vector<float> before(model->parameters().begin(), model->parameters().end());
        profiles_of(options_of(4), *model);
        CHECK(std::ranges::equal(model->parameters(), before));
    }

    TEST_CASE("layers that share one scale have one step, and their own overrides hold") {
        QuantizeOptions quantize;
        set_scheme(quantize.weights, "per_tensor_symmetric");
        quantize.layers = {{.match = "fc2", .settings = {{"weights.scheme", "\"per_channel_symmetric\""}}}};
        const auto model = small_model(16);
        const auto profiles = profiles_of(options_of(4), *model, quantize);
        const auto& one = profiles[0].weight_step;
        CHECK(std::ranges::count(one, one[0]) == static_cast<std::ptrdiff_t>(kHidden));
        CHECK(profiles[1] == profiles_of(options_of(4), *model)[1]);
    }

    TEST_CASE("a channel of several groups has the root mean square of their steps") {
        QuantizeOptions quantize;
        set_scheme(quantize.weights, "per_group_symmetric");
        quantize.weights.group_size = 2;
        const auto model = small_model(16);
        const LayerProfile profile = profiles_of(options_of(4), *model, quantize)[0];
        const std::span<const float> w = std::as_const(*model).parameters();
        for (std::size_t c = 0; c < kHidden; ++c) {
            const std::vector<float> channel = column(w.first(kInputs * kHidden), c, kHidden);
            float upper = 0;
            float lower = 0;
            symmetric_errors(std::span(channel).first(2), 4, upper);
            symmetric_errors(std::span(channel).last(2), 4, lower);
            CHECK(profile.weight_step[c] == doctest::Approx(std::sqrt((upper * upper + lower * lower) / 2)));
        }
    }

    TEST_CASE("every scheme and every observer can be imitated, and no error is larger than its step") {
        const auto model = small_model(16);
        for (const Choice& scheme : scheme_choices())
            for (const Observer observer : {Observer::minmax, Observer::moving_average_minmax, Observer::percentile,
                                            Observer::mse, Observer::lsq, Observer::pact}) {
                QuantizeOptions quantize;
                if (!scheme.name.starts_with("per_sample"))
                    set_scheme(quantize.weights, scheme.name);
                set_scheme(quantize.activations, scheme.name);
                quantize.weights.observer = quantize.activations.observer = observer;
                quantize.weights.group_size = quantize.activations.group_size = 2;
                CAPTURE(scheme.name);
                CAPTURE(static_cast<int>(observer));
                for (const LayerProfile& profile : profiles_of(options_of(4), *model, quantize)) {
                    for (std::size_t c = 0; c < profile.weight_step.size(); ++c)
                        CHECK(profile.weight_deviation[c] < profile.weight_step[c]);
                    CHECK(profile.activation_deviation > 0);
                    CHECK(profile.activation_deviation < profile.activation_step);
                }
            }
    }
}
