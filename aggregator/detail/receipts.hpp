// What was accepted: durable first, then told, and told again to whoever asks again. Private to the aggregator.
#pragma once

#include "aggregator/journal.hpp"
#include "core/sha256.hpp"
#include "transport/hub.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace dither {

/// Borrows the hub and the journal, which may be null: then nothing is kept, and whoever is accepted is told at once.
/// Memory: about 80 bytes for each client that was accepted once. Not thread-safe. Throws IoError where the journal
/// does; DiskFull harms nothing.
class Receipts {
public:
    Receipts(Hub& hub, Journal* journal) : hub_(hub), journal_(journal) {}

    /// `update` is about to be accepted: into the journal, and remembered. `plan`: that its client ran. Throws
    /// DiskFull, and it must not be accepted then.
    void record(const Message& update, const PrecisionPlan& plan, std::uint64_t wire_bytes);
    /// It is in the journal already.
    void remember(const Message& update);
    /// Whether `update` is, byte for byte, the one that was accepted of its client in its round; nothing if none was,
    /// or another one since.
    std::optional<bool> is_the_same(const Message& update) const;

    /// `peer` is to be told that the update of `client` is accepted. Returns the bytes that acknowledge() put on the
    /// wire, if that was due at once.
    std::uint64_t accept(PeerId peer, std::uint32_t round, std::uint32_t client);
    /// Somebody has yet to be told.
    bool has_waiting() const { return !waiting_.empty(); }
    /// So many have that no more should wait for a common sync.
    bool is_due() const;
    /// Group commit: all that was recorded is made durable, and those who wait are told. Returns the bytes on the wire.
    std::uint64_t acknowledge();

private:
    struct Receipt {
        std::uint32_t round = 0;
        Sha256 frame{};
    };
    struct Waiting {
        PeerId peer = 0;
        UpdateAck ack;
    };

    Hub& hub_;
    Journal* journal_;
    std::map<std::uint32_t, Receipt> receipts_;  ///< of each client the last one
    std::vector<Waiting> waiting_;
    std::size_t unsynced_bytes_ = 0;
};

}  // namespace dither
