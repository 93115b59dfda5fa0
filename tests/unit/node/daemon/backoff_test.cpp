#include "node/daemon/backoff.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <vector>

using namespace dither;
using namespace std::chrono_literals;

TEST_SUITE("node/daemon/backoff") {
    TEST_CASE("pauses stay between half a second and a minute, and grow at most threefold") {
        Backoff backoff(7);
        auto last = Backoff::kLeast;
        for (int i = 0; i < 1000; ++i) {
            const auto pause = backoff.next();
            CHECK(pause >= 500ms);
            CHECK(pause <= 60s);
            CHECK(pause <= 3 * last);
            last = pause;
        }
    }

    TEST_CASE("an aggregator that stays away is asked less and less often") {
        std::vector<std::int64_t> tenth;
        for (std::uint32_t seed = 0; seed < 500; ++seed) {
            Backoff backoff(seed);
            for (int i = 0; i < 9; ++i)
                backoff.next();
            tenth.push_back(backoff.next().count());
        }
        std::ranges::sort(tenth);
        CHECK(tenth[250] > 5'000);
    }

    TEST_CASE("nodes that lose the aggregator together do not come back together") {
        std::set<std::int64_t> pauses;
        for (std::uint32_t seed = 0; seed < 100; ++seed)
            pauses.insert(Backoff(seed).next().count());
        CHECK(pauses.size() > 80);
    }

    TEST_CASE("a refusal waits for longest, and a welcome begins anew") {
        Backoff backoff(3);
        CHECK(backoff.longest() >= 45s);
        CHECK(backoff.longest() <= 60s);
        backoff.reset();
        CHECK(backoff.next() <= 1500ms);
    }

    TEST_CASE("the same seed waits the same") {
        Backoff one(11);
        Backoff other(11);
        for (int i = 0; i < 20; ++i)
            CHECK(one.next() == other.next());
    }
}
