// How the aggregator's one thread hears and answers its peers, whatever carries the bytes; and a node's end of the
// same.
#pragma once

#include "transport/frame.hpp"
#include "transport/messages.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

namespace dither {

using PeerId = std::uint32_t;

struct PeerJoined {
    PeerId peer = 0;
    std::string identity;  ///< the node id that it has proved (transport/tcp.hpp); empty: nobody vouches for it
};
struct Received {
    PeerId peer = 0;
    Message message;
    std::size_t wire_bytes = 0;  ///< of its frame, header included
};
/// The peer is gone, or said something that no peer may say. It will not be heard again.
struct PeerLost {
    PeerId peer = 0;
    std::string reason;
};
using HubEvent = std::variant<PeerJoined, Received, PeerLost>;

using Clock = std::chrono::steady_clock;

/// The aggregator's end. One thread calls it. A peer's failure is an event, never an exception.
class Hub {
public:
    virtual ~Hub() = default;

    /// The next event, or nothing at the deadline or after 100 ms without one, whichever is earlier: the caller looks
    /// at its clock and its signals and asks again. Waiting costs no processor.
    virtual std::optional<HubEvent> next_event(Clock::time_point deadline) = 0;
    /// Sends or queues; returns the bytes of the frame. Sending to a lost peer does nothing and returns 0.
    virtual std::size_t send(PeerId peer, const Message& message) = 0;
    /// The peer is known: its next frames may be as large as `limits` say. Before, 64 KiB (FrameLimits{}).
    virtual void admit(PeerId peer, const FrameLimits& limits) = 0;
    /// Tells the peer why (a Stop), delivers what is queued for it, and disconnects it: it is not heard again, and no
    /// event follows, not even of what it has already said. A lost peer stays lost.
    virtual void drop(PeerId peer, const std::string& reason) = 0;
    /// Delivers what is queued and ends all connections; idempotent. No event follows.
    virtual void close() = 0;
    /// Whether a lost peer may come back, under another PeerId: a client without a peer is worth waiting for then.
    virtual bool peers_return() const { return false; }
};

/// A node's end. One thread calls it. Destroying it tells the aggregator that the peer has left.
class Channel {
public:
    virtual ~Channel() = default;

    /// The next message, or nothing once the aggregator is gone. Waiting costs no processor. Throws FormatError if the
    /// aggregator says something that it may not, IoError if the connection fails.
    virtual std::optional<Message> receive() = 0;
    /// Sends or queues. Once the aggregator is gone it does nothing: receive() tells.
    virtual void send(const Message& message) = 0;
};

}  // namespace dither
