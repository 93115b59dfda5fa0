#include "core/layers/norm.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/model/schema.hpp"
#include "core/optim/optimizer.hpp"
#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>

#include <cmath>

namespace dither {
namespace {

using testing::OwnParameters;
using testing::random_tensor;

constexpr Pass kTraining{.training = true};

/// Mean and variance (biased) of channel `c`.
std::pair<double, double> moments_of(const Tensor& x, std::int64_t channels, std::int64_t c) {
    const std::int64_t rows = x.count() / channels;
    double mean = 0;
    for (std::int64_t r = 0; r < rows; ++r)
        mean += static_cast<double>(x.data()[r * channels + c]) / static_cast<double>(rows);
    double variance = 0;
    for (std::int64_t r = 0; r < rows; ++r)
        variance += std::pow(x.data()[r * channels + c] - mean, 2) / static_cast<double>(rows);
    return {mean, variance};
}

void set_plain(OwnParameters& own, std::size_t channels) {
    std::ranges::fill(own.values.values().first(channels), 1.0F);
    std::ranges::fill(own.values.values().subspan(channels, channels), 0.0F);
}

double relative_error(std::span<const float> a, std::span<const float> b) {
    double error = 0;
    double signal = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        error += std::pow(static_cast<double>(a[i]) - b[i], 2);
        signal += std::pow(static_cast<double>(b[i]), 2);
    }
    return std::sqrt(error / signal);
}

TEST_SUITE("core/layers/norm") {
    TEST_CASE("a training pass gives each channel mean 0 and variance 1, far from zero as well") {
        for (const std::int64_t channels : {1, 3, 16, 33}) {
            CAPTURE(channels);
            const auto layer = make_batch_norm({1, 7, 5, channels});
            OwnParameters own(*layer);
            set_plain(own, static_cast<std::size_t>(channels));
            Tensor x = random_tensor({9, 7, 5, channels}, 1);
            for (float& value : x.values())
                value = 1000 + 3 * value;
            const Tensor y = layer->forward(std::move(x), kTraining);
            for (std::int64_t c = 0; c < channels; ++c) {
                const auto [mean, variance] = moments_of(y, channels, c);
                CHECK(std::fabs(mean) < 1e-4);
                CHECK(variance == doctest::Approx(1).epsilon(1e-4));
            }
        }
    }

    TEST_CASE("running statistics move by a tenth towards the batch's in training, and evaluation uses them") {
        const auto layer = make_batch_norm({1, 4, 4, 2});
        OwnParameters own(*layer);
        set_plain(own, 2);
        Tensor x = random_tensor({3, 4, 4, 2}, 1);
        const auto [mean, variance] = moments_of(x, 2, 1);
        layer->forward(x.share(), kTraining);
        CHECK(own.values.values()[5] == doctest::Approx(0.1 * mean).epsilon(1e-5));
        CHECK(own.values.values()[7] == doctest::Approx(0.9 + 0.1 * variance * 48 / 47).epsilon(1e-5));

        own.values.values()[5] = 2;
        own.values.values()[7] = 9;
        const Tensor y = layer->forward(x.share(), {.keep = false});
        CHECK(y.data()[1] == doctest::Approx((x.data()[1] - 2) / 3).epsilon(1e-4));
        CHECK(own.values.values()[5] == 2);
    }

    TEST_CASE("a variance that averaging made negative counts as 0") {
        const auto layer = make_batch_norm({1, 2});
        OwnParameters own(*layer);
        set_plain(own, 2);
        std::ranges::fill(own.values.values().subspan(6), -1.0F);
        const Tensor y = layer->forward(random_tensor({3, 2}, 1), {.keep = false});
        CHECK(std::ranges::all_of(y.values(), [](float value) { return std::isfinite(value); }));
    }

    TEST_CASE("local statistics are the batch's in every pass and no part of the model; frozen ones never move") {
        const auto local = make_batch_norm({1, 3, 3, 2}, NormStatistics::local);
        CHECK(local->parameters().size() == 2);
        OwnParameters own(*local);
        const Tensor x = random_tensor({4, 3, 3, 2}, 1);
        const Tensor trained = local->forward(x.share(), kTraining);
        CHECK(std::ranges::equal(local->forward(x.share(), {.keep = false}).values(), trained.values()));

        const auto frozen = make_batch_norm({1, 3, 3, 2}, NormStatistics::frozen);
        OwnParameters kept(*frozen);
        const Tensor before = kept.values;
        const Tensor y = frozen->forward(x.share(), kTraining);
        CHECK(std::ranges::equal(kept.values.values(), before.values()));
        CHECK(std::ranges::equal(frozen->forward(x.share(), {.keep = false}).values(), y.values()));
    }

    TEST_CASE("passes that hold branches use the batch's statistics and learn nothing") {
        const auto layer = make_batch_norm({1, 3, 3, 2});
        CHECK(layer->absorb(Tail::relu));
        OwnParameters own(*layer);
        const Tensor x = random_tensor({4, 3, 3, 2}, 1);
        const Tensor recorded = layer->forward(x.share(), {.branches = Branches::record});
        const Tensor before = own.values;
        CHECK(std::ranges::equal(layer->forward(x.share(), {.branches = Branches::held}).values(), recorded.values()));
        CHECK(std::ranges::equal(own.values.values(), before.values()));
        CHECK(std::ranges::equal(layer->forward(x.share(), kTraining).values(), recorded.values()));
    }

    TEST_CASE("gradients agree with central differences, with and without ReLU, in place or not") {
        struct Case {
            const char* name;
            std::unique_ptr<Layer> layer;
            Shape x;
            Pass pass;
        };
        std::vector<Case> cases;
        for (const bool relu : {false, true}) {
            const std::size_t first = cases.size();
            cases.push_back({"training", make_batch_norm({1, 5, 4, 3}), {6, 5, 4, 3}, kTraining});
            cases.push_back({"evaluation", make_batch_norm({1, 5, 4, 3}), {6, 5, 4, 3}, {}});
            cases.push_back({"features", make_batch_norm({1, 5}), {11, 5}, kTraining});
            cases.push_back({"groups", make_group_norm({1, 5, 4, 6}, 3), {3, 5, 4, 6}, kTraining});
            cases.push_back({"one group", make_group_norm({1, 9, 8, 2}, 1), {2, 9, 8, 2}, {}});
            for (std::size_t i = first; relu && i < cases.size(); ++i)
                CHECK(cases[i].layer->absorb(Tail::relu));
        }
        for (Case& c : cases) {
            CAPTURE(c.name);
            if (&c >= &cases[cases.size() / 2]) {  // no kinks: hold the branches
                c.pass.training = false;
                c.pass.branches = Branches::record;
                OwnParameters own(*c.layer);
                c.layer->forward(random_tensor(c.x, 1), c.pass);
                c.pass.branches = Branches::held;
            }
            const auto errors = testing::check_layer(*c.layer, random_tensor(c.x, 1), 0.01F, c.pass);
            CHECK(errors.input < 2e-3);
            CHECK(errors.parameters < 2e-3);
            CHECK(errors.in_place_agrees);
        }
    }

    TEST_CASE("running statistics get no gradient, and no optimizer touches them") {
        const auto layer = make_batch_norm({1, 4});
        OwnParameters own(*layer);
        layer->forward(random_tensor({8, 4}, 1), kTraining);
        layer->backward(random_tensor({8, 4}, 2), kTraining, false);
        CHECK(std::ranges::all_of(own.gradients.values().subspan(8), [](float g) { return g == 0; }));

        LayerSpec spec{.name = "bn1", .count = 16};
        std::size_t offset = 0;
        for (const ParameterSpec& parameter : layer->parameters()) {
            spec.tensors.push_back({parameter.name, parameter.shape, offset, parameter.trained});
            offset += 4;
        }
        for (const char* kind : {"sgd", "adam"}) {
            const OptimizerOptions options{.kind = kind, .weight_decay = 0.5};
            const Tensor before = own.values;
            const auto optimizer = make_optimizer(options, Schema({spec}));
            optimizer->step(own.values.values(), own.gradients.values(), nullptr, {});
            CHECK(std::ranges::equal(own.values.values().subspan(8), before.values().subspan(8)));
            CHECK_FALSE(std::ranges::equal(own.values.values().first(8), before.values().first(8)));
        }
    }

    TEST_CASE("8 backward bits keep codes: a quarter of the memory, and gradients within their rounding") {
        const PrecisionPlan plan = PrecisionPlan::uniform(1, 8);
        for (const bool per_sample : {false, true}) {
            const auto make = [&] {
                return per_sample ? make_group_norm({1, 8, 8, 16}, 4) : make_batch_norm({1, 8, 8, 16});
            };
            const auto exact = make();
            const auto coded = make();
            OwnParameters own_exact(*exact);
            OwnParameters own_coded(*coded);
            const Tensor x = random_tensor({8, 8, 8, 16}, 1);
            const Tensor dy = random_tensor({8, 8, 8, 16}, 2);
            Arena arena;
            const Pass pass{.plan = &plan, .training = true, .arena = &arena};
            const Tensor y = exact->forward(x.share(), kTraining);
            {
                Tensor in_place(x.shape(), &arena);
                std::ranges::copy(x.values(), in_place.data());
                const std::size_t bytes = x.values().size() * sizeof(float);
                const Tensor result = coded->forward(std::move(in_place), pass);
                CHECK(std::ranges::equal(result.values(), y.values()));
                CHECK(static_cast<double>(arena.in_use()) < 1.35 * static_cast<double>(bytes));
                const Tensor dx = coded->backward(dy.share(), pass, true);
                CHECK(relative_error(dx.values(), exact->backward(dy.share(), kTraining, true).values()) < 0.01);
            }
            CHECK(relative_error(own_coded.gradients.values(), own_exact.gradients.values()) < 0.01);
            CHECK(arena.in_use() == 0);
        }
    }

    TEST_CASE("a batch of one value a channel gives the bias and leaves the running statistics") {
        const auto layer = make_batch_norm({1, 3});
        OwnParameters own(*layer);
        const Tensor before = own.values;
        const Tensor y = layer->forward(random_tensor({1, 3}, 1), kTraining);
        CHECK(std::ranges::equal(y.values(), own.values.values().subspan(3, 3)));
        const Tensor dx = layer->backward(random_tensor({1, 3}, 2), kTraining, true);
        CHECK(std::ranges::all_of(dx.values(), [](float g) { return g == 0; }));
        CHECK(std::ranges::equal(own.values.values(), before.values()));
    }

    TEST_CASE("group norm gives a sample the same values whatever its batch") {
        const auto layer = make_group_norm({1, 3, 3, 4}, 2);
        OwnParameters own(*layer);
        const Tensor batch = random_tensor({5, 3, 3, 4}, 1);
        Tensor sample({1, 3, 3, 4});
        std::ranges::copy(batch.item(3), sample.data());
        const Tensor y = layer->forward(batch.share(), kTraining);
        CHECK(std::ranges::equal(layer->forward(std::move(sample), kTraining).values(), y.item(3)));
        CHECK_THROWS_AS(make_group_norm({1, 3, 3, 4}, 3), PreconditionError);
    }
}

}  // namespace
}  // namespace dither
