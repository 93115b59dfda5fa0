#include "aggregator/detail/peers.hpp"

#include "aggregator/detail/log.hpp"

#include <algorithm>
#include <optional>

namespace dither {

Peers::Peers(const ServerSetup& setup, const Schema& schema)
    : setup_(setup),
      hub_(setup.hub),
      return_(setup.hub.peers_return()),
      limits_(FrameLimits::for_model(schema.parameters(), schema.layer_count())),
      welcome_{to_toml(setup.job)},
      guests_(setup.job, schema, setup.registry, return_) {}

Clock::time_point Peers::patience_for(std::uint32_t client, Clock::time_point start) const {
    if (!return_)
        return Clock::time_point::min();
    const auto away = away_since_.find(client);
    return setup_.job.federation.rejoin + (away == away_since_.end() ? start : std::max(start, away->second));
}

void Peers::greet(PeerId peer, const Hello& hello) {
    std::optional<PeerId> superseded;
    if (const std::string reason = guests_.greet(peer, hello, superseded); !reason.empty())
        return expel(peer, reason);
    if (superseded)
        supersede(*superseded);
    const std::uint32_t client = guests_.at(peer).client;
    if (!dispatcher_.join(peer, client))
        return expel(peer, fmt::format("client {} is spoken for by another peer", client));
    away_since_.erase(client);
    had_any_ = true;
    hub_.admit(peer, limits_);
    welcome_.client = client;
    hub_.send(peer, welcome_);
    log(setup_, "{} has joined as peer {}", name_of(peer), peer);
}

void Peers::supersede(PeerId peer) {
    hub_.drop(peer, "this node has connected again");
    dispatcher_.leave(peer);
    guests_.forget(peer);
}

void Peers::lose(PeerId peer, const std::string& reason) {
    if (!knows(peer))
        return guests_.forget(peer);
    log(setup_, "{} is lost: {}", name_of(peer), reason);
    last_loss_ = fmt::format("peer {}: {}", peer, reason);
    if (return_) {  // a link that is bad is no task's fault
        away_since_[guests_.at(peer).client] = setup_.now();
        dispatcher_.leave(peer);
    } else {
        dispatcher_.lose(peer);
    }
    guests_.forget(peer);
}

void Peers::expel(PeerId peer, const std::string& reason) {
    log(setup_, "{} is refused: {}", name_of(peer), reason);
    hub_.drop(peer, reason);
    lose(peer, reason);
}

void Peers::dismiss(const std::string& reason) {
    for (const PeerId peer : dispatcher_.peers())
        hub_.send(peer, Stop{reason});
}

}  // namespace dither
