#include "core/model/evaluate.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "tests/unit/gradient_check.hpp"
#include "tests/unit/made_up_data.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace dither {
namespace {

std::unique_ptr<Model> model_of(std::int64_t max_batch) {
    static const auto backend = make_backend({});
    auto model = make_model({.name = "mlp", .hidden = {8}}, {},
                            {.sample = {1, 4}, .outputs = 2, .max_batch = max_batch}, *backend);
    model->initialize(1);
    return model;
}

TEST_SUITE("core/model/evaluate") {
    TEST_CASE("every sample is counted once, the last short batch included") {
        const Dataset data = two_blobs(25);
        const auto loss = make_loss("cross_entropy");
        const auto in_one = model_of(25);
        const auto in_batches = model_of(4);
        const Score expected = evaluate(*in_one, *loss, data, nullptr, {});
        const Score score = evaluate(*in_batches, *loss, data, nullptr, {});
        CHECK(score.samples == 25);
        CHECK(score.correct == expected.correct);
        CHECK(score.loss == doctest::Approx(expected.loss));
    }

    TEST_CASE("the samples at given places are scored as a set of their own would be") {
        const Dataset data = two_blobs(25);
        const auto loss = make_loss("cross_entropy");
        const auto model = model_of(4);
        const std::vector<std::uint32_t> places{0, 1, 2, 3, 4, 5, 6};
        const Score part = evaluate(*model, *loss, data, places, nullptr, {});
        CHECK(part.samples == 7);
        CHECK(part.loss == evaluate(*model, *loss, data.first(7), nullptr, {}).loss);
        CHECK(evaluate(*model, *loss, data, std::vector<std::uint32_t>{}, nullptr, {}).samples == 0);
    }

    TEST_CASE("errors of a regression, by hand") {
        // Targets (1, 10), (3, 10), (8, 40): means 4 and 20, squared deviations 9 + 1 + 16 and 100 + 100 + 400.
        const Dataset data(Shape{1, 1}, std::vector<float>(3), {}, 0, {1, 10, 3, 10, 8, 40}, 2);
        CHECK(data.target_variance() == doctest::Approx(626.0 / 6));
        // Off by (1, -2), (0, 3), (-1, 0): squares 15, magnitudes 7, over 6 numbers.
        const Score score{.samples = 3, .squared_error = 15.0 / 2, .absolute_error = 7.0 / 2};
        const auto errors = regression_errors(score, data);
        REQUIRE(errors);
        CHECK(errors->rmse == doctest::Approx(std::sqrt(15.0 / 6)));
        CHECK(errors->mae == doctest::Approx(7.0 / 6));
        REQUIRE(errors->r2);
        CHECK(*errors->r2 == doctest::Approx(1 - 15.0 / 626));
    }

    TEST_CASE("what does not vary has no share of variance to explain, and classes have no errors") {
        const Dataset constant(Shape{1, 1}, std::vector<float>(2), {}, 0, {3, 3}, 1);
        const auto errors = regression_errors({.samples = 2, .squared_error = 2, .absolute_error = 2}, constant);
        REQUIRE(errors);
        CHECK_FALSE(errors->r2);
        CHECK(errors->rmse == 1);
        CHECK_FALSE(regression_errors({.samples = 2}, two_blobs(2)));
        CHECK_FALSE(regression_errors({}, constant));
    }

    TEST_CASE("the score is that of the forward passes, in the data's order") {
        const Dataset data = two_blobs(4);
        const auto loss = make_loss("cross_entropy");
        const auto model = model_of(4);
        Batch batch;
        const std::vector<std::uint32_t> all{0, 1, 2, 3};
        data.gather(all, batch);
        const Score expected = loss->evaluate(model->forward(batch.inputs, {}), batch.targets, nullptr);
        const Score score = evaluate(*model, *loss, data, nullptr, {});
        CHECK(score.loss == expected.loss);
        CHECK(score.correct == expected.correct);
    }

    TEST_CASE("what the model saw before does not change its quantized score") {
        const Dataset data = two_blobs(10);
        const auto loss = make_loss("cross_entropy");
        const PrecisionPlan plan = PrecisionPlan::uniform(2, 4);
        const auto fresh = model_of(4);
        const auto used = model_of(4);
        Tensor large = testing::random_tensor({4, 4}, 1);
        for (float& value : large.values())
            value *= 100;
        used->forward(large, {.plan = &plan, .training = true});
        const Score quantized = evaluate(*fresh, *loss, data, &plan, {});
        CHECK(evaluate(*used, *loss, data, &plan, {}).loss == quantized.loss);
        CHECK(evaluate(*fresh, *loss, data, nullptr, {}).loss != quantized.loss);
    }

    TEST_CASE("stochastic rounding draws anew for each seed and round, and the same again for the same ones") {
        const Dataset data = two_blobs(10);
        const auto loss = make_loss("cross_entropy");
        const PrecisionPlan plan = PrecisionPlan::uniform(2, 4);
        QuantizeOptions quantize;
        quantize.weights.rounding = Rounding::stochastic;
        const auto backend = make_backend({});
        const auto model = make_model({.name = "mlp", .hidden = {8}}, quantize,
                                      {.sample = {1, 4}, .outputs = 2, .max_batch = 4}, *backend);
        model->initialize(1);
        const auto loss_of = [&](const StreamKey& key) { return evaluate(*model, *loss, data, &plan, key).loss; };
        const double first = loss_of({.seed = 1, .round = 1});
        CHECK(loss_of({.seed = 1, .round = 1, .step = 7}) == first);
        CHECK(loss_of({.seed = 1, .round = 2}) != first);
        CHECK(loss_of({.seed = 2, .round = 1}) != first);
    }

    TEST_CASE("a loss that is not finite stops the evaluation") {
        const auto model = model_of(4);
        model->parameters()[0] = std::numeric_limits<float>::quiet_NaN();
        CHECK_THROWS_AS(evaluate(*model, *make_loss("cross_entropy"), two_blobs(5), nullptr, {}), TrainingError);
    }
}

}  // namespace
}  // namespace dither
