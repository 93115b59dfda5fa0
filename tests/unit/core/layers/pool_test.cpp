#include "core/layers/pool.hpp"

#include "core/error.hpp"
#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <numeric>

namespace dither {
namespace {

/// Distinct values 0.1 apart, so that central differences never change which one is the largest.
Tensor distinct_values(const Shape& shape) {
    Tensor x(shape);
    std::vector<std::uint32_t> order(x.values().size());
    std::iota(order.begin(), order.end(), 0U);
    Stream({.seed = 5}).shuffle(order);
    for (std::size_t i = 0; i < order.size(); ++i)
        x.values()[i] = 0.1F * static_cast<float>(order[i]);
    return x;
}

TEST_SUITE("core/layers/pool") {
    TEST_CASE("max pool takes the largest of each 2x2 window, channel by channel") {
        const auto pool = make_max_pool({1, 2, 4, 2});
        CHECK(pool->output_shape() == Shape({1, 1, 2, 2}));
        Tensor x({1, 2, 4, 2});
        // Pixels (channel 0, channel 1); the windows are the left and the right half.
        std::ranges::copy(std::array{1.0F, -8.0F, 2.0F, -7.0F, 5.0F, 0.0F, 6.0F, 9.0F,  //
                                     3.0F, -6.0F, 4.0F, -5.0F, 8.0F, 1.0F, 7.0F, 2.0F},
                          x.data());
        Tensor y;
        pool->forward(x, y, {});
        CHECK(std::ranges::equal(y.values(), std::array{4.0F, -5.0F, 8.0F, 9.0F}));
    }

    TEST_CASE("max pool's gradient agrees with central differences") {
        for (const std::int64_t channels : {1, 3, 16}) {
            CAPTURE(channels);
            const auto pool = make_max_pool({1, 4, 6, channels});
            CHECK(testing::check_layer(*pool, distinct_values({3, 4, 6, channels})).input < 1e-3);
        }
    }

    TEST_CASE("equal values give the whole gradient to the first of them") {
        const auto pool = make_max_pool({1, 2, 2, 1});
        const Tensor x({1, 2, 2, 1});
        Tensor y;
        pool->forward(x, y, {});
        Tensor dy({1, 1, 1, 1});
        dy.data()[0] = 2;
        Tensor dx;
        pool->backward(x, y, dy, &dx, {});
        CHECK(std::ranges::equal(dx.values(), std::array{2.0F, 0.0F, 0.0F, 0.0F}));
    }

    TEST_CASE("a NaN anywhere in a window comes through") {
        const auto pool = make_max_pool({1, 2, 2, 1});
        for (int place = 0; place < 4; ++place) {
            CAPTURE(place);
            Tensor x({1, 2, 2, 1});
            x.data()[place] = std::numeric_limits<float>::quiet_NaN();
            Tensor y;
            pool->forward(x, y, {});
            CHECK(std::isnan(y.data()[0]));
        }
    }

    TEST_CASE("images of odd extent are refused") {
        CHECK_THROWS_AS(make_max_pool({1, 5, 4, 1}), PreconditionError);
        CHECK_THROWS_AS(make_max_pool({1, 16}), PreconditionError);
    }
}

}  // namespace
}  // namespace dither
