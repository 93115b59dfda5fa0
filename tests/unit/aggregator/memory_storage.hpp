// A disk in memory that forgets what was not synced, and can be full or broken.
#pragma once

#include "core/error.hpp"
#include "core/storage.hpp"

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace dither::test {

class MemoryStorage final : public Storage {
public:
    struct File {
        std::string bytes;
        std::size_t synced = 0;
    };
    struct State {
        std::map<std::string, File> files;
        std::size_t syncs = 0;
        std::size_t appends_left = std::numeric_limits<std::size_t>::max();  ///< then the disk is full
        std::size_t syncs_left = std::numeric_limits<std::size_t>::max();    ///< then it fails
    };

    /// Several storages may share a disk, as programs that follow each other do.
    explicit MemoryStorage(State& state) : state_(state) {}

    std::optional<std::string> read(const std::string& name) const override {
        const auto at = state_.files.find(name);
        return at == state_.files.end() ? std::nullopt : std::optional(at->second.bytes);
    }
    using Storage::replace;
    void replace(const std::string& name, const ByteSource& write) override {
        std::string bytes;
        write([&](std::string_view more) { bytes += more; });
        state_.files[name] = {bytes, bytes.size()};
    }
    std::unique_ptr<AppendFile> open_append(const std::string& name) override {
        state_.files[name];
        return std::make_unique<Appended>(state_, name);
    }
    bool exists(const std::string& name) const override { return state_.files.contains(name); }

    /// The power fails.
    static void lose_unsynced(State& state) {
        for (auto& [name, file] : state.files)
            file.bytes.resize(file.synced);
    }

private:
    class Appended final : public AppendFile {
    public:
        Appended(State& state, std::string name) : state_(state), name_(std::move(name)) {}

        void append(std::string_view bytes) override {
            if (state_.appends_left == 0)
                throw DiskFull(name_ + ": the disk is full");
            --state_.appends_left;
            file().bytes += bytes;
        }
        void sync() override {
            if (state_.syncs_left == 0)
                throw IoError(name_ + ": cannot sync");
            --state_.syncs_left;
            ++state_.syncs;
            file().synced = file().bytes.size();
        }
        void truncate(std::uint64_t size) override {
            file().bytes.resize(static_cast<std::size_t>(size));
            file().synced = file().bytes.size();
        }
        std::uint64_t size() const override { return state_.files.at(name_).bytes.size(); }

    private:
        File& file() { return state_.files.at(name_); }

        State& state_;
        std::string name_;
    };

    State& state_;
};

}  // namespace dither::test
