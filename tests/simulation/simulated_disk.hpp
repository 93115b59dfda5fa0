// The disk of a simulated aggregator: files in memory that a crash tears, loses or keeps, as far as they were not
// synced.
#pragma once

#include "core/rng.hpp"
#include "core/storage.hpp"
#include "transport/simulated.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace dither::simulation {

/// Outlives the processes that use it. Writing takes virtual time, in which the process can die: before, between or
/// after any two steps.
class SimulatedDisk {
public:
    /// Told of every file that was replaced, once that is durable.
    using Replaced = std::function<void(const std::string& name, const std::string& bytes)>;

    SimulatedDisk(SimulatedNetwork& network, std::uint32_t seed, Replaced replaced);

    /// What a process sees of it, and no process after it.
    std::unique_ptr<Storage> open();

    // Faults.
    void set_full(bool full);
    bool has_been_full() const { return has_been_full_; }
    /// The next sync fails: what was written since the last one may be gone, in part or whole.
    void fail_next_sync() { sync_fails_ = true; }
    /// The process that used it is gone. Of what it had not synced, each file keeps all, nothing, a piece, or a piece
    /// and behind it bytes that were never written.
    void lose_unsynced();

    bool exists(const std::string& name) const { return files_.contains(name); }
    /// Empty if there is no such file.
    std::string content(const std::string& name) const;

private:
    class View;
    class Appended;

    struct File {
        std::string bytes;
        std::size_t synced = 0;
    };

    void work(std::uint32_t most_milliseconds);
    void check_space(const std::string& name) const;
    void check_sync(const std::string& name);
    void tear(File& file);

    SimulatedNetwork& network_;
    Stream stream_;
    Replaced replaced_;
    std::map<std::string, File> files_;
    bool full_ = false;
    bool has_been_full_ = false;
    bool sync_fails_ = false;
};

}  // namespace dither::simulation
