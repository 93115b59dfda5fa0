// Who is in: the peers that have said a hello that can be accepted, and which client each of them speaks for. Private
// to the aggregator.
#pragma once

#include "aggregator/registry.hpp"
#include "core/config.hpp"
#include "core/model/schema.hpp"
#include "core/precision/device.hpp"
#include "transport/hub.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace dither {

/// One that has said hello.
struct Guest {
    std::string node;
    std::uint32_t client = kAnyClient;  ///< that it speaks for; kAnyClient: a worker
    Device device{};                    ///< as a peer that speaks for one client describes itself; else without limits
    std::uint32_t held = 0;             ///< a worker: the round whose model it has after all that it was sent; 0: none
    bool answered_unasked = false;      ///< and the log has said so

    bool hosts_any() const { return client == kAnyClient; }
};

/// Borrows the job, the schema and the registry, which may be null. Not thread-safe.
class Guests {
public:
    /// `return_`: peers come back after their connections were lost. Then each speaks for one client, for it owns its
    /// data, and a hello takes the place of what is left of the same node's last connection.
    Guests(const Job& job, const Schema& schema, Registry* registry, bool return_);

    /// The peer has connected, and has proved to be `identity`, if that is not empty.
    void expect(PeerId peer, const std::string& identity);
    /// Why the hello is refused; empty if the peer is in. `superseded` <- another peer that the same node left behind;
    /// it is a guest until forget(). A client that the registry assigns is assigned even if another check of the caller
    /// fails. Throws IoError where the registry does.
    std::string greet(PeerId peer, const Hello& hello, std::optional<PeerId>& superseded);
    void forget(PeerId peer);

    bool contains(PeerId peer) const { return guests_.contains(peer); }
    Guest& at(PeerId peer) { return guests_.at(peer); }
    const Guest& at(PeerId peer) const { return guests_.at(peer); }
    /// "node edge-7 (client 3)", or "peer 12" before its hello.
    std::string name_of(PeerId peer) const;

private:
    /// Of a hello, whatever was said before it.
    std::string refusal_of(const Hello& hello) const;
    std::string refusal_of_client(std::uint32_t client) const;
    std::optional<PeerId> left_behind_by(const std::string& node) const;

    QuantizeOptions quantize_;
    const Schema& schema_;
    std::uint32_t clients_;
    Registry* registry_;
    bool return_;
    std::map<PeerId, std::string> identities_;  ///< of peers that have proved theirs and not said hello
    std::map<PeerId, Guest> guests_;
    std::map<std::string, PeerId> nodes_;  ///< where peers return: the guest of each node
};

}  // namespace dither
