#include "aggregator/registry.hpp"

#include "core/error.hpp"
#include "tests/unit/aggregator/memory_storage.hpp"
#include "transport/messages.hpp"

#include <limits>

#include <doctest/doctest.h>

using namespace dither;
using test::MemoryStorage;

namespace {

constexpr const char* kFile = "nodes.tsv";

/// The client, or why there is none.
std::string answer(Registry& registry, const std::string& node, std::uint32_t wanted = kAssignedClient) {
    std::string why;
    const auto client = registry.client_of(node, wanted, why);
    return client ? std::to_string(*client) : why;
}

std::string refusal_of(const std::string& text) {
    MemoryStorage::State disk;
    disk.files[kFile] = {text, text.size()};
    MemoryStorage storage(disk);
    try {
        return std::to_string(Registry(storage, 3).size()) + " nodes";
    } catch (const InputError& error) {
        return error.what();
    }
}

}  // namespace

TEST_SUITE("aggregator/registry") {
    TEST_CASE("a new node gets the lowest free client, or the one that it wants") {
        MemoryStorage::State disk;
        MemoryStorage storage(disk);
        Registry registry(storage, 4);
        CHECK(answer(registry, "a") == "0");
        CHECK(answer(registry, "b", 2) == "2");
        CHECK(answer(registry, "c") == "1");
        CHECK(answer(registry, "d") == "3");
        CHECK(registry.size() == 4);
    }

    TEST_CASE("a node speaks for its client for ever, through power failures") {
        MemoryStorage::State disk;
        {
            MemoryStorage storage(disk);
            Registry registry(storage, 4);
            answer(registry, "a", 3);
            answer(registry, "b");
        }
        MemoryStorage::lose_unsynced(disk);
        CHECK(disk.files.at(kFile).bytes == "3\ta\n0\tb\n");
        MemoryStorage storage(disk);
        Registry registry(storage, 4);
        CHECK(answer(registry, "a") == "3");
        CHECK(answer(registry, "a", 3) == "3");
        CHECK(answer(registry, "b") == "0");
        CHECK(answer(registry, "c") == "1");
    }

    TEST_CASE("who wants another node's client, or another one than its own, is told why not") {
        MemoryStorage::State disk;
        MemoryStorage storage(disk);
        Registry registry(storage, 2);
        answer(registry, "a", 0);
        CHECK(answer(registry, "b", 0) == "client 0 is another node's");
        CHECK(answer(registry, "a", 1) == "node a speaks for client 0, not 1");
        CHECK(answer(registry, "b", 2) == "there is no client 2, expected 0 .. 1");
        answer(registry, "b");
        CHECK(answer(registry, "c") == "all 2 clients have their nodes");
    }

    TEST_CASE("a full disk refuses a new node, and knows the others") {
        MemoryStorage::State disk;
        MemoryStorage storage(disk);
        Registry registry(storage, 4);
        answer(registry, "a");
        disk.appends_left = 0;
        CHECK(answer(registry, "b") == "the aggregator's disk is full");
        CHECK(answer(registry, "a") == "0");
        disk.appends_left = std::numeric_limits<std::size_t>::max();
        CHECK(answer(registry, "c") == "1");
    }

    TEST_CASE("a line that was torn in writing is cut off") {
        MemoryStorage::State disk;
        disk.files[kFile] = {"0\ta\n1\tb", 7};
        MemoryStorage storage(disk);
        Registry registry(storage, 4);
        CHECK(registry.size() == 1);
        CHECK(answer(registry, "c") == "1");
        CHECK(disk.files.at(kFile).bytes == "0\ta\n1\tc\n");
    }

    TEST_CASE("a last line is cut off whose end came to the disk and whose beginning did not") {
        CHECK(refusal_of("0\ta\n" + std::string("\0\0b\n", 4)) == "1 nodes");
    }

    TEST_CASE("a file that is none is refused by its line") {
        CHECK(refusal_of("0\ta\n2\tb\n") == "2 nodes");
        for (const std::string line : {"x", "", "1", "1 b", "1\t", "1\tb\t", "3\tb", "-1\tb", "0\tb", "1\ta"}) {
            CAPTURE(line);
            CHECK(refusal_of("0\ta\n" + line + "\n2\tz\n") ==
                  "nodes.tsv:2: expected CLIENT<tab>NODE, clients 0 .. 2, each once");
        }
    }
}
