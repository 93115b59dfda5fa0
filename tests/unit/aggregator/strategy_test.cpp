#include "aggregator/strategy.hpp"

#include "core/config.hpp"
#include "core/error.hpp"

#include <array>

#include <doctest/doctest.h>

using namespace dither;

TEST_SUITE("aggregator/strategy") {
    TEST_CASE("fedavg weighs a client by its samples and adds the mean update") {
        const auto strategy = make_strategy({.kind = "fedavg", .server_lr = 1.0}, 3);
        CHECK(strategy->weight(600) == 600);
        std::array<float, 3> next{0.5F, -2, 0};
        strategy->apply(std::array<float, 3>{1, 2, 3}, next);
        CHECK(next == std::array<float, 3>{1.5F, 0, 3});
    }

    TEST_CASE("no client weighs more than the cap, whatever it says it has") {
        const auto strategy = make_strategy({.kind = "fedavg", .sample_cap = 100}, 1);
        CHECK(strategy->weight(99) == 99);
        CHECK(strategy->weight(101) == 100);
        CHECK(strategy->weight(std::uint64_t{1} << 39) == 100);
    }

    TEST_CASE("the server's learning rate scales the step") {
        const auto strategy = make_strategy({.kind = "fedavg", .server_lr = 0.5}, 1);
        std::array<float, 1> next{3};
        strategy->apply(std::array<float, 1>{1}, next);
        CHECK(next[0] == 2.5F);
    }

    TEST_CASE("fedavg carries no state from round to round and refuses another's") {
        const auto strategy = make_strategy({}, 1);
        CHECK(strategy->state().empty());
        CHECK_NOTHROW(strategy->restore({}));
        CHECK_THROWS_AS(strategy->restore(std::array<float, 1>{1}), PreconditionError);
    }

    TEST_CASE("an update of another size is refused") {
        const auto strategy = make_strategy({}, 2);
        std::array<float, 2> update{1, 2};
        CHECK_THROWS_AS(strategy->apply(std::array<float, 1>{1}, update), PreconditionError);
    }

    TEST_CASE("an unknown strategy is refused by the name of its key") {
        CHECK_THROWS_WITH_AS(make_strategy({.kind = "krum"}, 1),
                             "federation.strategy.kind: expected \"fedavg\", got \"krum\"", InputError);
    }
}
