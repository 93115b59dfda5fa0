#include "core/layers/residual.hpp"

#include "core/compute/backend.hpp"
#include "core/config.hpp"
#include "core/error.hpp"
#include "core/layers/activation.hpp"
#include "core/layers/sequential.hpp"
#include "core/layers/weighted.hpp"
#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>

namespace dither {
namespace {

using testing::random_tensor;

const Backend& backend() {
    static const auto backend = make_backend({});
    return *backend;
}

std::unique_ptr<Layer> linear(std::int64_t in, std::int64_t out) {
    return make_linear(in, out, true, {}, backend(), 8);
}

template <typename... Layers>
std::unique_ptr<Layer> sequence(Layers... layers) {
    std::vector<std::unique_ptr<Layer>> list;
    (list.push_back(std::move(layers)), ...);
    return std::make_unique<Sequential>(std::move(list));
}

/// The residual's layers, each with parameters of its own.
std::vector<testing::OwnParameters> attach(Layer& layer) {
    std::vector<testing::OwnParameters> own;
    layer.visit([&](Layer& inner) { own.emplace_back(inner); });
    return own;
}

TEST_SUITE("core/layers/residual") {
    TEST_CASE("the two ways are added") {
        const auto layer = make_residual({1, 3}, sequence(make_relu({1, 3})));
        Tensor x({1, 3});
        std::ranges::copy(std::array{-1.0F, 2.0F, 3.0F}, x.data());
        CHECK(std::ranges::equal(layer->forward(x.share(), {}).values(), std::array{-1.0F, 4.0F, 6.0F}));
        CHECK(layer->absorb(Tail::relu));
        CHECK_FALSE(layer->absorb(Tail::relu));
        CHECK(std::ranges::equal(layer->forward(x.share(), {}).values(), std::array{0.0F, 4.0F, 6.0F}));
        CHECK(layer->backward(Tensor(Shape{1, 3}), {}, false).empty());
    }

    TEST_CASE("the input's gradient agrees with central differences, in place or not") {
        for (const bool projected : {false, true})
            for (const bool relu : {false, true}) {
                CAPTURE(projected);
                CAPTURE(relu);
                const std::int64_t out = projected ? 4 : 5;
                const auto layer = make_residual({1, 5}, sequence(linear(5, 6), make_tanh({1, 6}), linear(6, out)),
                                                 projected ? linear(5, 4) : nullptr);
                CHECK(layer->absorb(relu ? Tail::relu : Tail::max_pool) == relu);
                const auto own = attach(*layer);
                CHECK(own.size() == (projected ? 4 : 3));
                layer->forward(random_tensor({3, 5}, 1), {.branches = Branches::record});
                const Pass held{.branches = Branches::held};
                const auto errors = testing::check_layer(*layer, random_tensor({3, 5}, 1), 0.01F, held);
                CHECK(errors.input < 1e-3);
                CHECK(errors.in_place_agrees);
            }
    }

    TEST_CASE("ways of different shapes are refused") {
        CHECK_THROWS_AS(make_residual({1, 5}, linear(5, 4)), PreconditionError);
        CHECK_THROWS_AS(make_residual({1, 5}, linear(5, 4), linear(5, 3)), PreconditionError);
    }
}

}  // namespace
}  // namespace dither
