#include "core/liars.hpp"

#include "core/config.hpp"

#include <doctest/doctest.h>

using namespace dither;

namespace {

FederationOptions federation_of(std::uint32_t clients, double share) {
    FederationOptions federation;
    federation.clients = clients;
    federation.attack.share = share;
    return federation;
}

}  // namespace

TEST_SUITE("core/liars") {
    TEST_CASE("as many clients attack as the share says, and the seed says who") {
        const Attackers attackers(federation_of(100, 0.3), 7);
        const Attackers again(federation_of(100, 0.3), 7);
        const Attackers others(federation_of(100, 0.3), 8);
        std::size_t count = 0, different = 0;
        for (std::uint32_t client = 0; client < 100; ++client) {
            count += attackers.contains(client) ? 1 : 0;
            CHECK(attackers.contains(client) == again.contains(client));
            different += attackers.contains(client) != others.contains(client) ? 1 : 0;
        }
        CHECK(count == 30);
        CHECK(different > 0);
    }

    TEST_CASE("a share that is no whole number of clients is rounded down") {
        CHECK(Attackers(federation_of(10, 0.29), 1).size() == 2);
        CHECK(Attackers(federation_of(10, 0.05), 1).size() == 0);
        FederationOptions federation;
        federation.cohort = 10;
        federation.aggregation.faulty = 0.3;
        CHECK(liars_borne(federation) == 3);
    }

    TEST_CASE("rules need so many updates") {
        FederationOptions federation;
        federation.cohort = 100;
        const auto fewest = [&](const char* rule) {
            federation.aggregation = {.kind = rule, .faulty = 0.2};
            return fewest_updates(federation);
        };
        CHECK(fewest("mean") == 1);
        CHECK(fewest("median") == 41);
        CHECK(fewest("krum") == 43);
        CHECK(fewest("multi_krum") == 43);
        CHECK(fewest("bulyan") == 83);
    }
}
