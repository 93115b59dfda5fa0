#include "core/optim/weight_rounder.hpp"

#include "core/config.hpp"
#include "core/error.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

using namespace dither;

namespace {

const StreamKey kKey{.seed = 3, .client = 1, .round = 2, .step = 5};
constexpr std::size_t kIn = 64;
constexpr std::size_t kOut = 4;
constexpr std::size_t kWeights = kIn * kOut;
constexpr std::size_t kLinear = kWeights + kOut;

/// fc1 and fc2, each [64, 4] with a bias, and a norm between them.
Schema schema() {
    const auto linear = [](const char* name, std::size_t offset) {
        return LayerSpec{.name = name,
                         .offset = offset,
                         .count = kLinear,
                         .tensors = {{.name = "weight", .shape = {kIn, kOut}, .offset = offset},
                                     {.name = "bias", .shape = {kOut}, .offset = offset + kWeights}},
                         .macs = kWeights};
    };
    const LayerSpec norm{.name = "bn1",
                         .offset = kLinear,
                         .count = kOut,
                         .tensors = {{.name = "weight", .shape = {kOut}, .offset = kLinear}},
                         .macs = 0};
    return Schema({linear("fc1", 0), norm, linear("fc2", kLinear + kOut)});
}

std::vector<float> random_parameters() {
    std::vector<float> values(schema().parameters());
    Stream(StreamKey{.seed = 9}).fill_normal(values);
    return values;
}

/// Distinct values of fc1's output channel `channel`.
std::set<float> levels(std::span<const float> parameters, std::size_t channel) {
    std::set<float> found;
    for (std::size_t row = 0; row < kIn; ++row)
        found.insert(parameters[row * kOut + channel]);
    return found;
}

}  // namespace

TEST_SUITE("core/optim/weight_rounder") {
    TEST_CASE("weights are left on the codes of their channel, and nothing else is touched") {
        const std::vector<float> before = random_parameters();
        std::vector<float> after = before;
        WeightRounder({}, schema()).round(after, nullptr, kKey);
        CHECK(after == before);
        PrecisionPlan plan = PrecisionPlan::uniform(3, 4);
        plan.layers[2].forward = 32;
        WeightRounder({}, schema()).round(after, &plan, kKey);
        for (std::size_t channel = 0; channel < kOut; ++channel) {
            const std::set<float> found = levels(after, channel);
            const float top = std::max(std::abs(*found.begin()), std::abs(*found.rbegin()));
            CHECK(found.size() > 7);
            for (const float value : found) {
                const float code = value / (top / 7);  // -7 .. 7
                CHECK(code == doctest::Approx(std::round(code)).epsilon(1e-5));
            }
        }
        CHECK(std::equal(after.begin() + kWeights, after.end(), before.begin() + kWeights));  // fc1's bias and the rest
    }

    TEST_CASE("weights on codes stay, so that a step of zero changes nothing") {
        std::vector<float> once = random_parameters();
        const PrecisionPlan plan = PrecisionPlan::uniform(3, 4);
        WeightRounder rounder({}, schema());
        rounder.round(once, &plan, kKey);
        std::vector<float> twice = once;
        rounder.round(twice, &plan, kKey);
        for (std::size_t i = 0; i < once.size(); ++i)
            CHECK(twice[i] == doctest::Approx(once[i]).epsilon(1e-6));
    }

    TEST_CASE("a layer's own width and scheme decide, and its plan where it has none") {
        QuantizeOptions quantize;
        quantize.layers = {{.match = "fc1", .settings = {{"weights.bits", "2"}}}};
        std::vector<float> parameters = random_parameters();
        const PrecisionPlan plan = PrecisionPlan::uniform(3, 8);
        WeightRounder(quantize, schema()).round(parameters, &plan, kKey);
        for (std::size_t channel = 0; channel < kOut; ++channel)
            CHECK(levels(parameters, channel).size() <= 3);
        const std::size_t fc2 = kLinear + kOut;
        CHECK(levels(std::span<const float>(parameters).subspan(fc2), 0).size() > 20);
    }

    TEST_CASE("small steps are right in the mean, though each is less than a code") {
        constexpr int kSteps = 2000;
        constexpr float kStep = 0.001F;  // a code is 1 / 7
        std::vector<float> parameters(schema().parameters(), 0.0F);
        for (std::size_t channel = 0; channel < kOut; ++channel)
            parameters[channel] = 1;  // fixes the range of each channel
        const PrecisionPlan plan = PrecisionPlan::uniform(3, 4);
        WeightRounder rounder({}, schema());
        const std::vector<float> start = parameters;
        StreamKey key = kKey;
        double sum = 0;
        for (int step = 0; step < kSteps; ++step, ++key.step) {
            parameters = start;
            for (std::size_t i = kOut; i < kWeights; ++i)
                parameters[i] += kStep;
            rounder.round(parameters, &plan, key);
            for (std::size_t i = kOut; i < kWeights; ++i)
                sum += parameters[i];
        }
        const double count = static_cast<double>(kSteps) * (kWeights - kOut);
        const double deviation = std::sqrt(kStep * (1.0 / 7 - kStep) / count);
        CHECK(std::abs(sum / count - kStep) < 5 * deviation);
    }

    TEST_CASE("a weight that is not finite stops the training") {
        std::vector<float> parameters = random_parameters();
        parameters[3] = std::numeric_limits<float>::quiet_NaN();
        const PrecisionPlan plan = PrecisionPlan::uniform(3, 4);
        CHECK_THROWS_AS(WeightRounder({}, schema()).round(parameters, &plan, kKey), TrainingError);
    }

    TEST_CASE("operands of another model are refused") {
        std::vector<float> parameters(3);
        const PrecisionPlan plan = PrecisionPlan::uniform(3, 4);
        CHECK_THROWS_AS(WeightRounder({}, schema()).round(parameters, &plan, kKey), PreconditionError);
    }
}
