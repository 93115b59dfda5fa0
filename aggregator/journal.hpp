// What a round has accepted before it is committed: every update, durable before it is acknowledged. README.md has the
// bytes of `journal.dither`.
#pragma once

#include "core/precision/plan.hpp"
#include "core/sha256.hpp"
#include "core/storage.hpp"
#include "transport/messages.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

namespace dither {

/// The journal of one round at a time. Not thread-safe. Borrows the storage. Throws IoError when the disk fails; after
/// a failed sync() it must not be used again (and the process must not go on: nobody knows what is on the disk).
class Journal {
public:
    static constexpr const char* kFile = "journal.dither";

    struct Entry {
        Message update;                ///< an Update
        PrecisionPlan plan;            ///< that its client ran
        std::uint64_t wire_bytes = 0;  ///< of the frame that brought it
    };

    explicit Journal(Storage& storage);
    ~Journal();

    /// Begins `round`, which starts from `broadcast`. If the file holds entries of this very round, they are given to
    /// `replay` in the order in which they were appended, one in memory at a time, and the journal goes on behind them;
    /// a torn end, which was not synced, is cut off. Entries of another round are discarded. Throws InputError that
    /// names the file if it is of another version, or an entry that is whole says what none can.
    void begin(std::uint32_t round, const Sha256& broadcast, const std::function<void(const Entry&)>& replay);
    /// `frame`: of the update, as encode_frame gives it. Not durable before sync(). Throws DiskFull, and the journal is
    /// as before then.
    void append(std::span<const std::byte> frame, const PrecisionPlan& plan, std::uint64_t wire_bytes);
    /// Group commit: everything appended so far is durable when it returns. Does nothing if it was already.
    void sync();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace dither
