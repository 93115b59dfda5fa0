#include "core/model/flatness.hpp"

#include "core/config.hpp"
#include "core/model/evaluate.hpp"
#include "tests/unit/made_up_data.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <memory>

using namespace dither;

namespace {

std::unique_ptr<Model> linear(std::int64_t inputs, int outputs) {
    static const auto backend = make_backend({});
    auto model =
        make_model({.name = "linear"}, {}, {.sample = {1, inputs}, .outputs = outputs, .max_batch = 16}, *backend);
    model->initialize(3);
    return model;
}

}  // namespace

TEST_SUITE("core/model/flatness") {
    TEST_CASE("radius 0 is the loss itself, and the parameters are as they were afterwards") {
        const Dataset data = two_blobs(25);
        const auto loss = make_loss("cross_entropy");
        const auto model = linear(4, 2);
        const std::vector<float> before(model->parameters().begin(), model->parameters().end());
        const auto found = loss_along_directions(*model, *loss, data, std::array{0.0, 0.5}, 3, {.seed = 7});
        CHECK(found.loss[0] == doctest::Approx(evaluate(*model, *loss, data, nullptr, {}).mean_loss()));
        CHECK(found.loss[1] != found.loss[0]);
        CHECK(std::ranges::equal(before, model->parameters()));
    }

    TEST_CASE("a step of radius r is r times as long as each filter, and biases stay") {
        // One filter w over an input e_i, target w_i: the loss is the square of the step's part along e_i, if the bias
        // stays; summed over all i it is r^2 ||w||^2.
        constexpr int kInputs = 3;
        const auto model = linear(kInputs, 1);
        const std::span<float> w = model->parameters();
        std::vector<float> pixels(kInputs * kInputs, 0.0F), targets;
        double squared = 0;
        for (int i = 0; i < kInputs; ++i) {
            pixels[static_cast<std::size_t>(i * kInputs + i)] = 1;
            targets.push_back(w[static_cast<std::size_t>(i)] + w[kInputs]);
            squared += std::pow(static_cast<double>(w[static_cast<std::size_t>(i)]), 2);
        }
        const Dataset data(Shape{1, kInputs}, pixels, {}, 0, targets, 1);
        const auto loss = make_loss("mse");
        const auto found = loss_along_directions(*model, *loss, data, std::array{0.0, 0.5, 1.0}, 1, {.seed = 1});
        CHECK(found.loss[0] == doctest::Approx(0).epsilon(1e-10));
        CHECK(found.loss[2] / found.loss[1] == doctest::Approx(4).epsilon(1e-3));
        CHECK(found.loss[2] == doctest::Approx(squared / kInputs).epsilon(1e-3));
    }

    TEST_CASE("the same seed draws the same directions, another one others") {
        const Dataset data = two_blobs(25);
        const auto loss = make_loss("cross_entropy");
        const auto model = linear(4, 2);
        const auto at = [&](std::uint32_t seed) {
            return loss_along_directions(*model, *loss, data, std::array{1.0}, 2, {.seed = seed}).loss[0];
        };
        CHECK(at(1) == at(1));
        CHECK(at(1) != at(2));
    }
}
