#include "core/layers/activation.hpp"

#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace dither {
namespace {

TEST_SUITE("core/layers/activation") {
    TEST_CASE("relu keeps positive values and zeroes the others") {
        const auto relu = make_relu({1, 4});
        Tensor x({1, 4});
        std::ranges::copy(std::array{-1.0F, 0.0F, 2.0F, -0.5F}, x.data());
        Tensor y;
        relu->forward(x, y, {});
        CHECK(std::ranges::equal(y.values(), std::array{0.0F, 0.0F, 2.0F, 0.0F}));
    }

    TEST_CASE("relu lets a NaN through, so that a diverged network shows") {
        const auto relu = make_relu({1, 1});
        Tensor x({1, 1});
        x.data()[0] = std::numeric_limits<float>::quiet_NaN();
        Tensor y;
        relu->forward(x, y, {});
        CHECK(std::isnan(y.data()[0]));
    }

    TEST_CASE("relu's gradient agrees with central differences") {
        const auto relu = make_relu({1, 3, 5, 7});
        Tensor x = testing::random_tensor({4, 3, 5, 7}, 1);
        for (float& value : x.values())
            value += value < 0 ? -0.1F : 0.1F;  // away from the kink
        CHECK(testing::check_layer(*relu, x).input < 1e-4);
    }

    TEST_CASE("the gradient at exactly 0 is 0") {
        const auto relu = make_relu({1, 1});
        const Tensor x({1, 1});
        Tensor y;
        relu->forward(x, y, {});
        Tensor dy({1, 1});
        dy.data()[0] = 3;
        Tensor dx;
        relu->backward(x, y, dy, &dx, {});
        CHECK(dx.data()[0] == 0);
    }
}

}  // namespace
}  // namespace dither
