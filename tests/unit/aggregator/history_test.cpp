#include "aggregator/history.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>

using namespace dither;

namespace {

constexpr std::uint64_t kWhole = 100;

/// 16 bytes of it are round and lengths.
ModelPart part(std::uint32_t round, std::size_t wire_bytes) {
    return {.round = round, .payload = std::vector<std::byte>(wire_bytes - 16)};
}

History history_of(std::initializer_list<std::size_t> sizes) {
    History history;
    for (const std::size_t bytes : sizes)
        history.push(part(history.last() + 1, bytes), kWhole);
    return history;
}

}  // namespace

TEST_SUITE("aggregator/history") {
    TEST_CASE("at first every node can begin, at the model of round 1") {
        const History history;
        CHECK(history.base_for(0) == 1);
        CHECK(history.base_for(1) == 1);
        CHECK(history.since(1).empty());
        CHECK(history.base_for(2) == 0);  // nobody can hold what is not made yet
    }

    TEST_CASE("a client is sent the changes since the model that it holds") {
        const History history = history_of({20, 30, 40});
        CHECK(history.last() == 4);
        CHECK(history.base_for(0) == 1);
        CHECK(wire_bytes(history.since(1)) == 93);
        CHECK(history.base_for(3) == 3);
        CHECK(history.since(3).size() == 1);
        CHECK(history.since(3).front().round == 4);
        CHECK(history.since(4).empty());
        CHECK_THROWS_AS(history.since(5), PreconditionError);
    }

    TEST_CASE("changes that together take a whole model's bytes or more are let go, the oldest first") {
        const History history = history_of({20, 30, 40, 30});
        CHECK(history.reach == 3);
        CHECK(wire_bytes(history.since(3)) == 72);
        CHECK(history.base_for(2) == 0);
        CHECK(history.base_for(0) == 0);
        const History lost = history_of({20, 100});
        CHECK(lost.parts.empty());
        CHECK(lost.base_for(3) == 3);
        CHECK(lost.base_for(2) == 0);
    }

    TEST_CASE("after a model that no change leads to, nothing earlier is built on") {
        History history = history_of({20, 30});
        history.restart(4);
        CHECK(history.base_for(3) == 0);
        CHECK(history.base_for(0) == 0);
        history.push(part(5, 20), kWhole);
        CHECK(history.base_for(4) == 4);
        CHECK(history.base_for(3) == 0);
        CHECK_THROWS_AS(history.push(part(5, 20), kWhole), PreconditionError);
    }
}
