#include "aggregator/detail/guests.hpp"

#include "tests/unit/aggregator/fixtures.hpp"
#include "tests/unit/aggregator/memory_storage.hpp"

#include <optional>
#include <string>

#include <doctest/doctest.h>

using namespace dither;
using test::MemoryStorage;

namespace {

Job job_of(std::uint32_t clients) {
    Job job;
    job.federation.clients = clients;
    return job;
}

/// Guests of a job of 3 clients.
struct House {
    explicit House(bool returning, bool registers = false)
        : registry(storage, 3), guests(job, test::small_schema(), registers ? &registry : nullptr, returning) {}

    std::string greet(PeerId peer, const std::string& node, std::uint32_t client) {
        superseded.reset();
        return guests.greet(peer, {.node = node, .client = client}, superseded);
    }

    Job job = job_of(3);
    MemoryStorage::State disk;
    MemoryStorage storage{disk};
    Registry registry;
    Guests guests;
    std::optional<PeerId> superseded;
};

}  // namespace

TEST_SUITE("aggregator/detail/guests") {
    TEST_CASE("a peer that speaks for a client, or for any, is in") {
        House house(false);
        CHECK(house.greet(1, "a", 2).empty());
        CHECK(house.greet(2, "b", kAnyClient).empty());
        CHECK(house.guests.at(1).client == 2);
        CHECK(house.guests.at(2).hosts_any());
        CHECK(house.guests.name_of(1) == "node a (client 2)");
        CHECK(house.guests.name_of(2) == "node b");
        CHECK(house.guests.name_of(3) == "peer 3");
    }

    TEST_CASE("who cannot be in is told why") {
        House house(false);
        CHECK(house.greet(1, "a", 3) == "speaks for client 3, expected 0 .. 2");
        CHECK(house.greet(1, "a", kAssignedClient) == "leaves its client to the aggregator, which assigns none here");
        CHECK(house.greet(1, "a", 0).empty());
        CHECK(house.greet(1, "a", 0) == "said hello twice");
        CHECK_FALSE(house.guests.contains(2));
    }

    TEST_CASE("peers that own their data speak for one client each") {
        House house(true);
        CHECK(house.greet(1, "a", kAnyClient) == "speaks for any client: expected one, whose data it owns");
    }

    TEST_CASE("a node is who it has proved to be, and nobody else") {
        House house(true);
        house.guests.expect(1, "a");
        house.guests.expect(2, "a");
        CHECK(house.greet(1, "b", 0) == "calls itself b, but has proved to be a");
        CHECK(house.greet(2, "a", 0).empty());
    }

    TEST_CASE("the registry says which client a node speaks for") {
        House house(true, true);
        CHECK(house.greet(1, "a", kAssignedClient).empty());
        CHECK(house.greet(2, "b", kAssignedClient).empty());
        CHECK(house.guests.at(1).client == 0);
        CHECK(house.guests.at(2).client == 1);
        CHECK(house.greet(3, "c", 1) == "client 1 is another node's");
    }

    TEST_CASE("a hello that is refused assigns no client") {
        House house(true, true);
        house.guests.expect(1, "a");
        house.greet(1, "b", kAssignedClient);
        CHECK(house.registry.size() == 0);
    }

    TEST_CASE("where peers return, a node's new connection supersedes its old one") {
        House house(true);
        house.greet(1, "a", 0);
        CHECK_FALSE(house.superseded.has_value());
        CHECK(house.greet(2, "a", 0).empty());
        CHECK(house.superseded == std::optional<PeerId>(1));
        house.guests.forget(1);
        CHECK(house.greet(3, "a", 0).empty());
        CHECK(house.superseded == std::optional<PeerId>(2));
        House other(false);
        other.greet(1, "a", 0);
        CHECK(other.greet(2, "a", 1).empty());
        CHECK_FALSE(other.superseded.has_value());
    }

    TEST_CASE("a peer that is forgotten may come again") {
        House house(true);
        house.greet(1, "a", 0);
        house.guests.forget(1);
        CHECK_FALSE(house.guests.contains(1));
        CHECK(house.greet(2, "a", 0).empty());
        CHECK_FALSE(house.superseded.has_value());
    }
}
