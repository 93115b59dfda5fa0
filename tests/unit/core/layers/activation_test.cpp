#include "core/layers/activation.hpp"

#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>

namespace dither {
namespace {

using Maker = std::unique_ptr<Layer> (*)(const Shape&);

struct Kind {
    const char* name;
    Maker make;
    float kinks[2];  ///< where its slope jumps
};

constexpr std::array kKinds{Kind{"relu", make_relu, {0, 0}}, Kind{"relu6", make_relu6, {0, 6}},
                            Kind{"hard_tanh", make_hard_tanh, {-1, 1}}, Kind{"tanh", make_tanh, {100, 100}}};

std::vector<float> outputs(Maker make, std::vector<float> values) {
    const auto count = static_cast<std::int64_t>(values.size());
    Tensor x({1, count});
    std::ranges::copy(values, x.data());
    const Tensor y = make({1, count})->forward(std::move(x), {});
    return {y.values().begin(), y.values().end()};
}

TEST_SUITE("core/layers/activation") {
    TEST_CASE("clamps keep what lies between their bounds") {
        CHECK(outputs(make_relu, {-1, 0, 2, -0.5F, 90}) == std::vector<float>{0, 0, 2, 0, 90});
        CHECK(outputs(make_relu6, {-1, 0, 2, 6, 90}) == std::vector<float>{0, 0, 2, 6, 6});
        CHECK(outputs(make_hard_tanh, {-3, -1, 0.25F, 1, 3}) == std::vector<float>{-1, -1, 0.25F, 1, 1});
    }

    TEST_CASE("tanh is within 3 units in the last place, keeps the sign of zero and saturates at 1") {
        std::vector<float> x;
        for (float value = 1e-30F; value < 12; value *= 1.01F)
            x.insert(x.end(), {value, -value});
        const std::vector<float> y = outputs(make_tanh, x);
        double worst = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            const double exact = std::tanh(static_cast<double>(x[i]));
            worst = std::max(worst, std::fabs(y[i] - exact) / std::fabs(exact));
        }
        CHECK(worst < 3 * std::ldexp(1.0, -23));
        const float infinity = std::numeric_limits<float>::infinity();
        const std::vector<float> edges = outputs(make_tanh, {-0.0F, 0.0F, 20, -20, infinity, -infinity});
        CHECK(edges == std::vector<float>{0, 0, 1, -1, 1, -1});
        CHECK(std::signbit(edges[0]));
    }

    TEST_CASE("a NaN comes through, so that a diverged network shows") {
        for (const Kind& kind : kKinds) {
            CAPTURE(kind.name);
            CHECK(std::isnan(outputs(kind.make, {std::numeric_limits<float>::quiet_NaN()})[0]));
        }
    }

    TEST_CASE("gradients agree with central differences, in place or not") {
        for (const Kind& kind : kKinds) {
            CAPTURE(kind.name);
            Tensor x = testing::random_tensor({4, 3, 5, 7}, 1);
            for (float& value : x.values()) {
                value *= 3;
                for (const float kink : kind.kinks)
                    if (std::fabs(value - kink) < 0.05F)
                        value = kink + 0.1F;
            }
            const auto layer = kind.make({1, 3, 5, 7});
            const auto errors = testing::check_layer(*layer, std::move(x));
            CHECK(errors.input < 2e-4);
            CHECK(errors.in_place_agrees);
        }
    }

    TEST_CASE("the gradient at a bound is 0") {
        for (const auto& [make, bound] :
             {std::pair<Maker, float>{make_relu, 0.0F}, {make_relu6, 6.0F}, {make_hard_tanh, -1.0F}}) {
            const auto layer = make({1, 1});
            Tensor x({1, 1});
            x.data()[0] = bound;
            layer->forward(std::move(x), {});
            Tensor dy({1, 1});
            dy.data()[0] = 3;
            CHECK(layer->backward(std::move(dy), {}, true).data()[0] == 0);
        }
    }

    TEST_CASE("held branches stay as they were recorded, whatever x has become") {
        const auto layer = make_relu6({1, 3});
        Tensor x({1, 3});
        std::ranges::copy(std::array{-1.0F, 2.0F, 9.0F}, x.data());
        layer->forward(x.share(), {.branches = Branches::record});
        std::ranges::copy(std::array{3.0F, -4.0F, 5.0F}, x.data());
        const Pass held{.branches = Branches::held};
        CHECK(std::ranges::equal(layer->forward(x.share(), held).values(), std::array{0.0F, -4.0F, 6.0F}));
        Tensor dy({1, 3});
        std::ranges::fill(dy.values(), 1.0F);
        CHECK(std::ranges::equal(layer->backward(std::move(dy), held, true).values(), std::array{0.0F, 1.0F, 0.0F}));
    }
}

}  // namespace
}  // namespace dither
