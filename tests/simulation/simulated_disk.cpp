#include "tests/simulation/simulated_disk.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace dither::simulation {

class SimulatedDisk::Appended final : public AppendFile {
public:
    Appended(SimulatedDisk& disk, std::string name) : disk_(disk), name_(std::move(name)) {}

    void append(std::string_view bytes) override {
        check_usable();
        disk_.work(1);
        disk_.check_space(name_);
        file().bytes += bytes;
    }

    void sync() override {
        check_usable();
        disk_.work(10);
        usable_ = false;
        disk_.check_sync(name_);
        usable_ = true;
        file().synced = file().bytes.size();
        disk_.work(5);
    }

    void truncate(std::uint64_t size) override {
        check_usable();
        disk_.work(5);
        require(size <= file().bytes.size(), "{}: cut to {} of {} bytes", name_, size, file().bytes.size());
        file().bytes.resize(size);
        file().synced = std::min<std::size_t>(file().synced, size);
        sync();
    }

    std::uint64_t size() const override { return disk_.files_.at(name_).bytes.size(); }

private:
    File& file() { return disk_.files_.at(name_); }
    void check_usable() const { require(usable_, "{} is used after a sync of it failed", name_); }

    SimulatedDisk& disk_;
    std::string name_;
    bool usable_ = true;
};

class SimulatedDisk::View final : public Storage {
public:
    explicit View(SimulatedDisk& disk) : disk_(disk) {}

    std::optional<std::string> read(const std::string& name) const override {
        const auto at = disk_.files_.find(name);
        return at == disk_.files_.end() ? std::nullopt : std::optional(at->second.bytes);
    }

    void replace(const std::string& name, const ByteSource& write) override {
        std::string bytes;
        write([&](std::string_view piece) { bytes += piece; });
        disk_.work(20);
        disk_.check_space(name);
        disk_.check_sync(name);
        disk_.files_[name] = {.bytes = bytes, .synced = bytes.size()};
        disk_.replaced_(name, bytes);
        disk_.work(10);
    }

    std::unique_ptr<AppendFile> open_append(const std::string& name) override {
        disk_.work(5);
        disk_.files_.try_emplace(name);
        disk_.work(5);
        return std::make_unique<Appended>(disk_, name);
    }

    bool exists(const std::string& name) const override { return disk_.exists(name); }

private:
    SimulatedDisk& disk_;
};

SimulatedDisk::SimulatedDisk(SimulatedNetwork& network, std::uint32_t seed, Replaced replaced)
    : network_(network), stream_({.seed = seed, .purpose = Purpose::test, .lane = 2}), replaced_(std::move(replaced)) {}

void SimulatedDisk::set_full(bool full) {
    full_ = full;
    has_been_full_ = has_been_full_ || full;
}

std::unique_ptr<Storage> SimulatedDisk::open() {
    return std::make_unique<View>(*this);
}

std::string SimulatedDisk::content(const std::string& name) const {
    const auto at = files_.find(name);
    return at == files_.end() ? "" : at->second.bytes;
}

void SimulatedDisk::lose_unsynced() {
    sync_fails_ = false;
    for (auto& [name, file] : files_)
        if (file.synced < file.bytes.size())
            tear(file);
}

void SimulatedDisk::work(std::uint32_t most_milliseconds) {
    network_.work(std::chrono::microseconds(stream_.below(1000 * most_milliseconds)));
}

void SimulatedDisk::check_space(const std::string& name) const {
    if (full_)
        throw DiskFull(fmt::format("{}: the simulated disk is full", name));
}

void SimulatedDisk::check_sync(const std::string& name) {
    if (std::exchange(sync_fails_, false))
        throw IoError(fmt::format("{}: cannot sync: the simulated disk failed", name));
}

void SimulatedDisk::tear(File& file) {
    const auto unsynced = static_cast<std::uint32_t>(file.bytes.size() - file.synced);
    const std::size_t whole = file.bytes.size();
    const std::size_t kept = file.synced + stream_.below(unsynced + 1);
    switch (stream_.below(5)) {
        case 0:
            break;
        case 1:
            file.bytes.resize(file.synced);
            break;
        case 2:  // the file had grown, its blocks had not come
            file.bytes.resize(kept);
            file.bytes.resize(whole, '\0');
            break;
        case 3:  // later blocks came, an earlier one did not
            std::fill(file.bytes.begin() + static_cast<std::ptrdiff_t>(file.synced),
                      file.bytes.begin() + static_cast<std::ptrdiff_t>(kept), '\0');
            break;
        default:
            file.bytes.resize(kept);
    }
    file.synced = file.bytes.size();
}

}  // namespace dither::simulation
