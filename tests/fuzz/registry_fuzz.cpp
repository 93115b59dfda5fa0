// The list of nodes and their clients as it lies on disk, its end torn or not.
#include "aggregator/registry.hpp"

#include "core/error.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/unit/aggregator/memory_storage.hpp"
#include "transport/messages.hpp"

#include <optional>
#include <string>

namespace dither::fuzz {
namespace {

using test::MemoryStorage;

constexpr std::uint32_t kClients = 4;
constexpr const char* kFile = "nodes.tsv";

}  // namespace

std::vector<Bytes> seeds() {
    return {to_bytes("0\tedge-7\n2\tnode_b\n"), to_bytes("3\ta\n1\tb\n0\tc\n2\td\n"), to_bytes("1\tcut-of"), {}};
}

/// What a list that is accepted gives a node is the node's for ever.
void run(std::span<const std::byte> bytes) {
    MemoryStorage::State disk;
    disk.files[kFile].bytes = as_text(bytes);
    MemoryStorage storage(disk);
    std::optional<std::uint32_t> given;
    std::string why;
    try {
        Registry registry(storage, kClients);
        require(registry.size() <= kClients, "{} nodes for {} clients", registry.size(), kClients);
        given = registry.client_of("new-node", kAssignedClient, why);
        require(given ? *given < kClients : registry.size() == kClients, "no client, though one is free: {}", why);
    } catch (const InputError&) {
        return;
    }
    Registry again(storage, kClients);
    require(again.client_of("new-node", kAssignedClient, why) == given, "a node's client is another one now");
}

}  // namespace dither::fuzz
