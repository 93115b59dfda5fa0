// What a hub's I/O thread has for the aggregator's thread, and how many bytes that is.
#pragma once

#include "transport/hub.hpp"

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

namespace dither::detail {

/// Thread-safe. Events of a peer that is not expected, or not any more, are not kept.
class EventQueue {
public:
    /// on_room: called when an event is taken after somebody asked to be told. It throws nothing.
    explicit EventQueue(std::function<void()> on_room) : on_room_(std::move(on_room)) {}

    void expect(PeerId peer);
    /// Its last event, whose place has been kept since expect(): no lack of memory keeps a loss secret.
    void push_last(PeerLost lost) noexcept;
    void push(PeerJoined joined);
    void push(Received received);
    std::optional<HubEvent> pop(Clock::time_point until);
    /// No event of this peer, not even of what is in the queue.
    void forget(PeerId peer);
    /// Nothing more, of anybody.
    void close();

    struct Load {
        std::size_t bytes = 0;
        std::size_t messages = 0;
    };
    /// Messages that have not been taken: all, and one peer's.
    std::size_t bytes() const;
    Load load_of(PeerId peer) const;
    /// on_room is called once an event is taken from here on.
    void ask_for_room();

private:
    struct Item {
        PeerId peer = 0;
        std::size_t bytes = 0;
        HubEvent event;
    };
    using Items = std::list<Item>;
    struct Peer {
        Load load;
        Items last;  ///< one place
    };
    /// The mutex is held.
    void add(Item item);
    void subtract(const Item& item);

    mutable std::mutex mutex_;
    std::condition_variable arrived_;
    std::function<void()> on_room_;
    bool room_is_wanted_ = false;
    bool closed_ = false;
    Items items_;
    std::size_t bytes_ = 0;
    std::unordered_map<PeerId, Peer> peers_;  ///< that are expected
};

}  // namespace dither::detail
