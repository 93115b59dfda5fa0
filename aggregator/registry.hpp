// Which node speaks for which client: assigned at a node's first hello, and for ever.
#pragma once

#include "core/storage.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace dither {

/// Kept in `nodes.tsv`, a line "CLIENT<tab>NODE" each, synced before it is used. Not thread-safe. Memory: a bit a
/// client and a record a node.
class Registry {
public:
    /// Reads the file; a last line that was torn in writing is cut off. Throws InputError that names the line if
    /// another one is not what it should be.
    Registry(Storage& storage, std::uint32_t clients);
    ~Registry();

    /// The client of `node`: that of its first hello. A new node gets the one that it wants, or, where it leaves that
    /// to the aggregator (kAssignedClient), the lowest free one. Nothing, and the reason in `why`, if it is another
    /// node's, none is free or the disk is full. Throws IoError if the disk fails otherwise.
    std::optional<std::uint32_t> client_of(const std::string& node, std::uint32_t wanted, std::string& why);
    std::size_t size() const { return clients_of_.size(); }

private:
    std::optional<std::uint32_t> assign(const std::string& node, std::uint32_t client, std::string& why);
    void remember(const std::string& node, std::uint32_t client);
    /// The lowest client without a node; `count_` if there is none.
    std::uint32_t lowest_free() const;

    std::uint32_t count_;
    std::map<std::string, std::uint32_t> clients_of_;
    std::vector<bool> taken_;
    std::unique_ptr<AppendFile> file_;
};

}  // namespace dither
