#include "aggregator/per_client.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <map>

using namespace dither;

TEST_SUITE("aggregator/per_client") {
    TEST_CASE("it has what was put last, and nothing of others, however it was put") {
        CHECK(rc::check([](const std::vector<std::map<std::uint8_t, std::uint32_t>>& rounds) {
            PerClient<std::uint32_t> values;
            std::map<std::uint32_t, std::uint32_t> expected;
            for (const auto& round : rounds) {
                std::vector<PerClient<std::uint32_t>::Entry> entries(round.rbegin(), round.rend());
                for (const auto& [client, value] : entries)
                    expected[client] = value;
                values.put(std::move(entries));
            }
            RC_ASSERT(values.clients().size() == expected.size());
            RC_ASSERT(values.values().size() == expected.size());
            for (std::uint32_t client = 0; client < 256; ++client)
                RC_ASSERT(values[client] == (expected.contains(client) ? expected[client] : 0));
        }));
    }

    TEST_CASE("clients that do not ascend, or lack a value, are none") {
        CHECK_THROWS_AS(PerClient<int>({2, 1}, {0, 0}), PreconditionError);
        CHECK_THROWS_AS(PerClient<int>({1, 1}, {0, 0}), PreconditionError);
        CHECK_THROWS_AS(PerClient<int>({1}, {}), PreconditionError);
    }
}
