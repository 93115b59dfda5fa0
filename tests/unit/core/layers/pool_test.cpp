#include "core/layers/pool.hpp"

#include "core/error.hpp"
#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>

#include <array>
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

constexpr std::array kWindows{PoolWindow{},        PoolWindow{2, 1, 0}, PoolWindow{3, 2, 1},
                              PoolWindow{3, 3, 0}, PoolWindow{1, 2, 0}, PoolWindow{4, 3, 2}};

TEST_SUITE("core/layers/pool") {
    TEST_CASE("max pool takes the largest of each window, channel by channel") {
        const auto pool = make_max_pool({1, 2, 4, 2});
        CHECK(pool->output_shape() == Shape({1, 1, 2, 2}));
        Tensor x({1, 2, 4, 2});
        // Pixels (channel 0, channel 1); the windows are the left and the right half.
        std::ranges::copy(std::array{1.0F, -8.0F, 2.0F, -7.0F, 5.0F, 0.0F, 6.0F, 9.0F,  //
                                     3.0F, -6.0F, 4.0F, -5.0F, 8.0F, 1.0F, 7.0F, 2.0F},
                          x.data());
        CHECK(std::ranges::equal(pool->forward(std::move(x), {}).values(), std::array{4.0F, -5.0F, 8.0F, 9.0F}));
    }

    TEST_CASE("gradients agree with central differences for every window") {
        for (const PoolWindow& window : kWindows)
            for (const std::int64_t channels : {1, 3, 16}) {
                CAPTURE(window.kernel);
                CAPTURE(window.stride);
                CAPTURE(channels);
                const Shape item{1, 4, 6, channels};
                const auto largest = make_max_pool(item, window);
                CHECK(testing::check_layer(*largest, distinct_values(item.with_batch(3))).input < 1e-3);
                const auto mean = make_average_pool(item, window);
                CHECK(testing::check_layer(*mean, testing::random_tensor(item.with_batch(3), 2), 0.5F).input < 1e-5);
            }
        const auto global = make_global_pool({1, 4, 6, 5});
        CHECK(global->output_shape() == Shape({1, 5}));
        CHECK(testing::check_layer(*global, testing::random_tensor({3, 4, 6, 5}, 3), 0.5F).input < 1e-5);
    }

    TEST_CASE("the padding takes no part: not in a maximum of negative values, and not in a mean") {
        Tensor x({1, 2, 2, 1});
        std::ranges::copy(std::array{-4.0F, -3.0F, -2.0F, -1.0F}, x.data());
        const PoolWindow window{.kernel = 2, .stride = 2, .padding = 1};
        const std::array corners{-4.0F, -3.0F, -2.0F, -1.0F};
        CHECK(std::ranges::equal(make_max_pool({1, 2, 2, 1}, window)->forward(x.share(), {}).values(), corners));
        CHECK(std::ranges::equal(make_average_pool({1, 2, 2, 1}, window)->forward(x.share(), {}).values(), corners));
    }

    TEST_CASE("equal values give the whole gradient to the first of them") {
        for (const PoolWindow& window : {PoolWindow{}, PoolWindow{3, 1, 1}}) {
            const auto pool = make_max_pool({1, 2, 2, 1}, window);
            Tensor dy = pool->forward(Tensor(Shape{1, 2, 2, 1}), {});
            std::ranges::fill(dy.values(), 2.0F);
            const float all = 2 * static_cast<float>(dy.count());
            CHECK(std::ranges::equal(pool->backward(std::move(dy), {}, true).values(),
                                     std::array{all, 0.0F, 0.0F, 0.0F}));
        }
    }

    TEST_CASE("a NaN anywhere in a window comes through") {
        for (const PoolWindow& window : {PoolWindow{}, PoolWindow{2, 1, 0}})
            for (int place = 0; place < 4; ++place) {
                CAPTURE(place);
                Tensor x({1, 2, 2, 1});
                x.data()[place] = std::numeric_limits<float>::quiet_NaN();
                CHECK(std::isnan(make_max_pool({1, 2, 2, 1}, window)->forward(x.share(), {}).data()[0]));
                CHECK(std::isnan(make_global_pool({1, 2, 2, 1})->forward(x.share(), {}).data()[0]));
            }
    }

    TEST_CASE("held branches take the places that were recorded") {
        for (const PoolWindow& window : {PoolWindow{}, PoolWindow{3, 1, 1}}) {
            const auto pool = make_max_pool({1, 2, 2, 1}, window);
            Tensor x({1, 2, 2, 1});
            std::ranges::copy(std::array{1.0F, 2.0F, 9.0F, 3.0F}, x.data());
            pool->forward(x.share(), {.branches = Branches::record});
            std::ranges::copy(std::array{50.0F, 60.0F, 7.0F, 80.0F}, x.data());
            const Pass held{.branches = Branches::held};
            Tensor dy = pool->forward(x.share(), held);
            CHECK(std::ranges::all_of(dy.values(), [](float y) { return y == 7; }));
            const float all = 7 * static_cast<float>(dy.count());
            CHECK(std::ranges::equal(pool->backward(std::move(dy), held, true).values(),
                                     std::array{0.0F, 0.0F, all, 0.0F}));
        }
    }

    TEST_CASE("images of odd extent lose their last row and column, and windows that do not fit are refused") {
        CHECK(make_max_pool({1, 5, 7, 1})->output_shape() == Shape({1, 2, 3, 1}));
        CHECK_THROWS_AS(make_max_pool({1, 16}), PreconditionError);
        CHECK_THROWS_AS(make_max_pool({1, 2, 2, 1}, {.kernel = 3, .stride = 1}), PreconditionError);
        CHECK_THROWS_AS(make_max_pool({1, 8, 8, 1}, {.kernel = 2, .stride = 2, .padding = 2}), PreconditionError);
        CHECK_THROWS_AS(make_max_pool({1, 20, 20, 1}, {.kernel = 16}), PreconditionError);
        CHECK_THROWS_AS(make_average_pool({1, 8, 8, 1}, {.kernel = 2, .stride = 0}), PreconditionError);
    }
}

}  // namespace
}  // namespace dither
