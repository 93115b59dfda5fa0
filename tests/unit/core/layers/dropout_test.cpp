#include "core/layers/dropout.hpp"

#include "core/error.hpp"
#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>

namespace dither {
namespace {

Tensor ones(const Shape& shape) {
    Tensor tensor(shape);
    std::ranges::fill(tensor.values(), 1.0F);
    return tensor;
}

TEST_SUITE("core/layers/dropout") {
    TEST_CASE("a share of the values is 0, the others make up for it, and the gradient takes the same way") {
        const auto layer = make_dropout({1, 1000}, 0.25, 0);
        const Pass pass{.key = {.seed = 3, .step = 4}, .training = true};
        const Tensor y = layer->forward(ones({40, 1000}), pass);
        const auto dropped = static_cast<double>(std::ranges::count(y.values(), 0.0F));
        CHECK(std::fabs(dropped - 10000) < 5 * 87);  // standard deviation 86.6
        CHECK(std::ranges::all_of(y.values(), [](float v) { return v == 0 || v == 1 / 0.75F; }));
        CHECK(std::ranges::equal(layer->backward(ones({40, 1000}), pass, true).values(), y.values()));
    }

    TEST_CASE("the mask depends on the step and on the lane, and on nothing else") {
        const Pass pass{.key = {.seed = 3, .step = 4}, .training = true};
        Pass next = pass;
        next.key.step = 5;
        const auto run = [](std::uint32_t lane, const Pass& p) {
            const Tensor y = make_dropout({1, 100}, 0.5, lane)->forward(ones({3, 100}), p);
            return std::vector<float>(y.values().begin(), y.values().end());
        };
        CHECK(run(0, pass) == run(0, pass));
        CHECK(run(0, pass) != run(1, pass));
        CHECK(run(0, pass) != run(0, next));
    }

    TEST_CASE("evaluation and passes that hold branches leave everything in") {
        const auto layer = make_dropout({1, 50}, 0.5, 0);
        const Tensor x = testing::random_tensor({2, 50}, 1);
        for (const Pass& pass : {Pass{}, Pass{.branches = Branches::record, .training = true},
                                 Pass{.branches = Branches::held, .training = true}}) {
            CHECK(std::ranges::equal(layer->forward(x.share(), pass).values(), x.values()));
            CHECK(std::ranges::equal(layer->backward(x.share(), pass, true).values(), x.values()));
        }
    }

    TEST_CASE("the gradient agrees with central differences, in place or not") {
        const auto layer = make_dropout({1, 37}, 0.3, 2);
        const auto errors = testing::check_layer(*layer, testing::random_tensor({5, 37}, 1), 0.5F, {.training = true});
        CHECK(errors.input < 1e-5);
        CHECK(errors.in_place_agrees);
    }

    TEST_CASE("a rate of 1 is refused") {
        CHECK_THROWS_AS(make_dropout({1, 2}, 1, 0), PreconditionError);
        CHECK_THROWS_AS(make_dropout({1, 2}, -0.1, 0), PreconditionError);
    }
}

}  // namespace
}  // namespace dither
