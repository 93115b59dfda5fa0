// The folder in which a node keeps what must survive it: its id, the uplink that it has used, its residuals.
#pragma once

#include "core/durable_file.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace dither {

/// Held by one node at a time: `.lock` is locked (flock) while this lives, by whatever process.
class StateFolder {
public:
    /// Creates it where it is missing. Throws InputError if it cannot be, or if another node uses it.
    explicit StateFolder(std::filesystem::path folder);

    const std::filesystem::path& path() const { return path_; }

    /// What the file `id` says; nothing if there is none. Throws InputError if it is no node id.
    std::optional<std::string> id() const;
    /// Durably. Throws IoError.
    void keep_id(const std::string& id) const;

private:
    std::filesystem::path id_file() const { return path_ / "id"; }

    std::filesystem::path path_;
    FileDescriptor lock_;
};

/// Who this node is: `wanted` (the command line's, empty: nobody), else `certified` (its certificate's, empty: none),
/// else the folder's, else one that is made from `seed`. The folder keeps it for ever: who the aggregator knows under
/// it is this node, with its data and its residuals. Throws InputError where two of the first three differ.
std::string identify(const StateFolder& folder, const std::string& wanted, const std::string& certified,
                     std::uint64_t seed);

}  // namespace dither
