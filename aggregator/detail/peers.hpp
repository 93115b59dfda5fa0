// The peers that are in, from their hello to their loss, and what they train. Private to the aggregator.
#pragma once

#include "aggregator/detail/dispatcher.hpp"
#include "aggregator/detail/guests.hpp"
#include "aggregator/server.hpp"
#include "core/model/schema.hpp"
#include "transport/frame.hpp"
#include "transport/hub.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace dither {

/// Borrows everything it is given. Not thread-safe. Throws IoError where the registry does.
class Peers {
public:
    Peers(const ServerSetup& setup, const Schema& schema);

    std::size_t size() const { return dispatcher_.size(); }
    bool knows(PeerId peer) const { return dispatcher_.knows(peer); }
    /// Some have been in, and none is now that could come back.
    bool have_left() const { return !return_ && had_any_ && size() == 0; }
    /// How the last one was lost.
    const std::string& last_loss() const { return last_loss_; }
    /// The node of a client is given up then, where nodes can come back and the round began at `start`; else at once.
    Clock::time_point patience_for(std::uint32_t client, Clock::time_point start) const;

    Dispatcher& tasks() { return dispatcher_; }
    const Dispatcher& tasks() const { return dispatcher_; }
    Guest& at(PeerId peer) { return guests_.at(peer); }
    const Guest& at(PeerId peer) const { return guests_.at(peer); }
    std::string name_of(PeerId peer) const { return guests_.name_of(peer); }

    /// It has connected, and is nobody until its hello.
    void expect(const PeerJoined& joined) { guests_.expect(joined.peer, joined.identity); }
    void greet(PeerId peer, const Hello& hello);
    /// Its connection is gone.
    void lose(PeerId peer, const std::string& reason);
    /// It has broken the protocol.
    void expel(PeerId peer, const std::string& reason);
    /// Sends all home.
    void dismiss(const std::string& reason);

private:
    /// The node of `peer` is here again under another id.
    void supersede(PeerId peer);

    const ServerSetup& setup_;
    Hub& hub_;
    bool return_;
    FrameLimits limits_;  ///< of a peer that is in
    Welcome welcome_;
    Dispatcher dispatcher_;
    Guests guests_;
    bool had_any_ = false;
    std::string last_loss_ = "none has joined";
    std::map<std::uint32_t, Clock::time_point> away_since_;  ///< of clients whose peer was lost, where peers return
};

}  // namespace dither
