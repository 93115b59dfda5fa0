#include "core/optim/optimizer.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "tests/unit/core/schema_of.hpp"

#include <doctest/doctest.h>
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

using namespace dither;

namespace {

const StreamKey kKey{.seed = 3, .client = 1, .round = 2};

StreamKey at_step(std::uint32_t step) {
    StreamKey key = kKey;
    key.step = step;
    return key;
}

/// Two steps on w = 1 with the gradients 0.5 and -0.25.
float after_two_steps(const OptimizerOptions& options) {
    const auto optimizer = make_optimizer(options, schema_of({{.count = 1}}));
    std::vector<float> w{1.0F};
    optimizer->step(w, std::vector<float>{0.5F}, nullptr, at_step(0));
    optimizer->step(w, std::vector<float>{-0.25F}, nullptr, at_step(1));
    return w[0];
}

/// Minimizes sum c_i w_i^2 / 2 from w = 1 and returns the largest |w_i| left.
float distance_left(const OptimizerOptions& options, const PrecisionPlan* plan, int steps) {
    constexpr std::size_t kCount = 1000;
    const auto optimizer = make_optimizer(options, schema_of({{.count = kCount}}));
    std::vector<float> w(kCount, 1.0F);
    std::vector<float> gradient(kCount);
    for (int step = 0; step < steps; ++step) {
        for (std::size_t i = 0; i < kCount; ++i)
            gradient[i] = (0.5F + static_cast<float>(i % 7) / 7) * w[i];
        optimizer->step(w, gradient, plan, at_step(static_cast<std::uint32_t>(step)));
    }
    const auto largest = std::ranges::max_element(w, {}, [](float value) { return std::abs(value); });
    return std::abs(*largest);
}

}  // namespace

TEST_SUITE("core/optim/optimizer") {
    TEST_CASE("an unknown kind is named") {
        CHECK_THROWS_WITH_AS(make_optimizer({.kind = "sdg"}, schema_of({{.count = 1}})), doctest::Contains("sdg"),
                             InputError);
    }

    TEST_CASE("plain SGD subtracts the rate times the gradient") {
        CHECK(after_two_steps({.kind = "sgd", .lr = 0.1, .momentum = 0}) ==
              doctest::Approx(1 - 0.1 * 0.5 + 0.1 * 0.25));
    }

    TEST_CASE("momentum accumulates gradients") {
        // v1 = 0.5, v2 = 0.9 * 0.5 - 0.25 = 0.2
        CHECK(after_two_steps({.kind = "sgd", .lr = 0.1, .momentum = 0.9}) ==
              doctest::Approx(1 - 0.1 * 0.5 - 0.1 * 0.2));
    }

    TEST_CASE("Nesterov momentum looks ahead") {
        // 0.5 + 0.9 * 0.5 = 0.95, then -0.25 + 0.9 * 0.2 = -0.07
        CHECK(after_two_steps({.kind = "sgd", .lr = 0.1, .momentum = 0.9, .nesterov = true}) ==
              doctest::Approx(1 - 0.1 * 0.95 + 0.1 * 0.07));
    }

    TEST_CASE("weight decay adds to the gradient") {
        const double first = 1 - 0.1 * (0.5 + 0.2 * 1);
        CHECK(after_two_steps({.kind = "sgd", .lr = 0.1, .momentum = 0, .weight_decay = 0.2}) ==
              doctest::Approx(first - 0.1 * (-0.25 + 0.2 * first)));
    }

    TEST_CASE("Adam corrects the bias of both moments") {
        const double m = 0.9 * 0.05 - 0.1 * 0.25;
        const double v = 0.999 * 0.00025 + 0.001 * 0.0625;
        const double first = 1 - 0.1 * 0.5 / (0.5 + 1e-8);
        const double second = first - 0.1 * (m / (1 - 0.81)) / (std::sqrt(v / (1 - 0.998001)) + 1e-8);
        CHECK(after_two_steps({.kind = "adam", .lr = 0.1}) == doctest::Approx(second).epsilon(1e-5));
    }

    TEST_CASE("AdamW takes its decay from the weight and leaves the moments alone") {
        const double lr = 0.1;
        const double decay = 0.2;
        double w = 1;
        double m = 0;
        double v = 0;
        double beta1_power = 1;
        double beta2_power = 1;
        for (const double g : {0.5, -0.25}) {
            beta1_power *= 0.9;
            beta2_power *= 0.999;
            w *= 1 - lr * decay;
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            w -= lr * (m / (1 - beta1_power)) / (std::sqrt(v / (1 - beta2_power)) + 1e-8);
        }
        CHECK(after_two_steps({.kind = "adamw", .lr = lr, .weight_decay = decay}) == doctest::Approx(w).epsilon(1e-6));
        CHECK(after_two_steps({.kind = "adamw", .lr = lr}) == after_two_steps({.kind = "adam", .lr = lr}));
    }

    TEST_CASE("the schedule's factor is one on the learning rate, decoupled decay included") {
        for (const char* kind : {"sgd", "adam", "adamw"}) {
            CAPTURE(kind);
            const OptimizerOptions whole{.kind = kind, .lr = 0.05, .weight_decay = 0.1};
            OptimizerOptions half = whole;
            half.lr /= 2;
            const auto scheduled = make_optimizer(whole, schema_of({{.count = 1}}));
            std::vector<float> w{1.0F};
            scheduled->step(w, std::vector<float>{0.5F}, nullptr, at_step(0), 0.5);
            scheduled->step(w, std::vector<float>{-0.25F}, nullptr, at_step(1), 0.5);
            CHECK(w[0] == after_two_steps(half));
        }
    }

    TEST_CASE("a reset optimizer starts as a new one") {
        for (const char* kind : {"sgd", "adam", "adamw"}) {
            const OptimizerOptions options{.kind = kind};
            const std::vector<float> gradient{0.5F, -2.0F, 0.125F};
            const auto used = make_optimizer(options, schema_of({{.count = 2}, {.count = 1}}));
            std::vector<float> scratch(3, 1.0F);
            for (std::uint32_t step = 0; step < 5; ++step)
                used->step(scratch, gradient, nullptr, at_step(step));
            used->reset();
            const auto fresh = make_optimizer(options, schema_of({{.count = 2}, {.count = 1}}));
            std::vector<float> a(3, 1.0F);
            std::vector<float> b(3, 1.0F);
            for (std::uint32_t step = 0; step < 3; ++step) {
                used->step(a, gradient, nullptr, at_step(step));
                fresh->step(b, gradient, nullptr, at_step(step));
            }
            CHECK(a == b);
        }
    }

    TEST_CASE("training converges with state in 8 bits, and in 4") {
        for (const char* kind : {"sgd", "adam"}) {
            const OptimizerOptions options{.kind = kind, .lr = 0.02};
            for (const int bits : {4, 8}) {
                CAPTURE(kind);
                CAPTURE(bits);
                const PrecisionPlan plan = PrecisionPlan::uniform(1, bits);
                CHECK(distance_left(options, &plan, 500) < 0.1F);
            }
        }
    }

    TEST_CASE("SGD passes errors of the gradient on as they are, Adam in units of the gradient's own size") {
        const Schema schema = schema_of({{.count = 4}, {.count = 4}, {.count = 2}});
        const std::vector<float> gradient{0.1F, -0.1F, 0.1F, 0, 10, 10, -10, 10, 0, 0};
        for (const char* kind : {"sgd", "adam", "adamw"}) {
            CAPTURE(kind);
            const auto optimizer = make_optimizer({.kind = kind, .lr = 0.5}, schema);
            std::vector<float> w(10, 1.0F);
            for (std::uint32_t step = 0; step < 3; ++step)
                optimizer->step(w, gradient, nullptr, at_step(step));
            const bool sgd = std::string_view(kind) == "sgd";
            CHECK(optimizer->step_gain(0) ==
                  doctest::Approx(sgd ? 1 : 1 / 0.1));  // whatever the coordinate without gradient
            CHECK(optimizer->step_gain(1) == doctest::Approx(sgd ? 1 : 1 / 10.0));
            CHECK(optimizer->step_gain(2) == (sgd ? 1 : kNotMeasured));
            optimizer->reset();
            CHECK(optimizer->step_gain(0) == (sgd ? 1 : kNotMeasured));
        }
    }

    TEST_CASE("the gain says how far an error of Adam's gradient moves its step") {
        const Schema schema = schema_of({{.count = 1000}});
        std::vector<float> gradient(1000);
        Stream stream({.seed = 8});
        stream.fill_normal(gradient);
        std::vector<float> moved = gradient;
        double error = 0;
        for (std::size_t i = 0; i < moved.size(); ++i) {
            const float change = (i % 2 == 0 ? 1e-3F : -1e-3F) * gradient[i];  // where the gradient is
            moved[i] += change;
            error += static_cast<double>(change) * static_cast<double>(change);
        }
        std::vector<float> w[2] = {std::vector<float>(1000), std::vector<float>(1000)};
        float gain = 0;
        for (const int other : {0, 1}) {
            // Without memory of its own, the smoothed gradient is the last one; the second moment hardly sees it.
            const auto optimizer = make_optimizer({.kind = "adam", .lr = 1, .beta1 = 0}, schema);
            for (std::uint32_t step = 0; step < 1000; ++step)
                optimizer->step(w[other], gradient, nullptr, at_step(step));
            std::ranges::fill(w[other], 0.0F);
            optimizer->step(w[other], other == 1 ? moved : gradient, nullptr, at_step(1000));
            gain = optimizer->step_gain(0);
        }
        double change = 0;
        for (std::size_t i = 0; i < moved.size(); ++i)
            change += std::pow(static_cast<double>(w[1][i]) - static_cast<double>(w[0][i]), 2);
        CHECK(std::sqrt(change) == doctest::Approx(gain * std::sqrt(error)).epsilon(0.01));
    }

    TEST_CASE("a plan of 32 bits is the same as none") {
        const PrecisionPlan plan = PrecisionPlan::uniform(1, 32);
        for (const char* kind : {"sgd", "adam"})
            CHECK(distance_left({.kind = kind}, &plan, 20) == distance_left({.kind = kind}, nullptr, 20));
    }

    TEST_CASE("rounded momentum is right in the mean") {
        // The buffer after one step is the rounded gradient, and a second step with gradient 0 shows it: w = -0.9 v.
        constexpr std::size_t kCount = 65'536;
        std::vector<float> gradient(kCount, 0.3F);
        for (std::size_t i = 0; i < kCount; i += 256)
            gradient[i] = 7;  // 4 bits: each block's scale is 1
        const auto optimizer =
            make_optimizer({.kind = "sgd", .lr = 1, .momentum = 0.9}, schema_of({{.count = kCount}}));
        const PrecisionPlan plan = PrecisionPlan::uniform(1, 4);
        std::vector<float> w(kCount, 0.0F);
        optimizer->step(w, gradient, &plan, at_step(0));
        std::fill(w.begin(), w.end(), 0.0F);
        optimizer->step(w, std::vector<float>(kCount, 0.0F), &plan, at_step(1));
        double sum = 0;
        std::size_t off_grid = 0;
        for (std::size_t i = 0; i < kCount; ++i) {
            off_grid += w[i] != 0 && w[i] != -0.9F && w[i] != -0.9F * 7;
            sum += i % 256 == 0 ? 0 : static_cast<double>(w[i]);
        }
        CHECK(off_grid == 0);
        const double count = kCount - kCount / 256;
        CHECK(std::abs(sum / count + 0.9 * 0.3) < 5 * 0.9 * std::sqrt(0.3 * 0.7 / count));
    }

    TEST_CASE("Adam's step stays bounded where its second moment is far below its block's scale") {
        const auto optimizer = make_optimizer({.kind = "adam", .lr = 0.001}, schema_of({{.count = 256}}));
        const PrecisionPlan plan = PrecisionPlan::uniform(1, 8);
        std::vector<float> w(256, 0.0F);
        std::vector<float> gradient(256, 1e-6F);
        gradient[0] = 10;
        for (std::uint32_t step = 0; step < 100; ++step)
            optimizer->step(w, gradient, &plan, at_step(step));
        for (const float value : w)
            CHECK(std::abs(value) < 0.11F);  // 100 steps of at most about the rate
    }

    TEST_CASE("the same key rounds alike, another step or layer does not") {
        const auto weights_after = [](std::uint32_t first_step) {
            const auto optimizer =
                make_optimizer({.kind = "sgd", .lr = 1}, schema_of({{.count = 256}, {.count = 256}}));
            const PrecisionPlan plan = PrecisionPlan::uniform(2, 4);
            std::vector<float> gradient(512);
            for (std::size_t i = 0; i < gradient.size(); ++i)
                gradient[i] = std::sin(static_cast<float>(i % 256));
            std::vector<float> w(512, 0.0F);
            for (std::uint32_t step = first_step; step < first_step + 3; ++step)
                optimizer->step(w, gradient, &plan, at_step(step));
            return w;
        };
        const std::vector<float> w = weights_after(0);
        CHECK(w == weights_after(0));
        CHECK(w != weights_after(1));
        CHECK_FALSE(std::equal(w.begin(), w.begin() + 256, w.begin() + 256));
    }

    TEST_CASE("state that is not finite stops the training") {
        const auto optimizer = make_optimizer({.kind = "sgd"}, schema_of({{.count = 2}}));
        const PrecisionPlan plan = PrecisionPlan::uniform(1, 8);
        std::vector<float> w(2, 0.0F);
        const std::vector<float> gradient{1.0F, std::numeric_limits<float>::quiet_NaN()};
        CHECK_THROWS_AS(optimizer->step(w, gradient, &plan, at_step(0)), TrainingError);
    }

    TEST_CASE("operands of another model are refused") {
        const auto optimizer = make_optimizer({.kind = "adam"}, schema_of({{.count = 2}}));
        std::vector<float> w(3);
        CHECK_THROWS_AS(optimizer->step(w, w, nullptr, kKey), PreconditionError);
        const PrecisionPlan plan = PrecisionPlan::uniform(2, 8);
        std::vector<float> fitting(2);
        CHECK_THROWS_AS(optimizer->step(fitting, fitting, &plan, kKey), PreconditionError);
    }
}
