// The files of one folder as a program that must survive a crash sees them: replaced whole, or appended to and synced.
// An interface, so that a simulated disk can tear and lose what was not synced.
#pragma once

#include "core/durable_file.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace dither {

/// A file that grows at its end. Not thread-safe. A failure to write or sync is an IoError (DiskFull where the disk is
/// full: then the file is as long as before). After a failed sync nothing is known of the file, and it must not be used
/// again.
class AppendFile {
public:
    virtual ~AppendFile() = default;
    virtual void append(std::string_view bytes) = 0;
    /// What was appended is on the disk when it returns.
    virtual void sync() = 0;
    /// Cuts the file to `size` bytes, durably.
    virtual void truncate(std::uint64_t size) = 0;
    virtual std::uint64_t size() const = 0;
};

/// Names are plain file names of one folder. Not thread-safe. Throws IoError that names the file.
class Storage {
public:
    virtual ~Storage() = default;

    /// The whole file; nothing if there is none.
    virtual std::optional<std::string> read(const std::string& name) const = 0;
    /// `size` bytes from `offset` on, or as many as there are; of files that need not be in memory at once.
    virtual std::string read_part(const std::string& name, std::uint64_t offset, std::size_t size) const;
    /// Replaces the file by what `write` gives to its sink, whole or not at all, and durably when it returns.
    virtual void replace(const std::string& name, const ByteSource& write) = 0;
    void replace(const std::string& name, std::string_view bytes);
    /// Opens the file for appending, or creates it, durably.
    virtual std::unique_ptr<AppendFile> open_append(const std::string& name) = 0;
    virtual bool exists(const std::string& name) const = 0;
};

/// The real disk, by core/durable_file.hpp. The folder exists.
std::unique_ptr<Storage> make_folder_storage(const std::filesystem::path& folder);

}  // namespace dither
