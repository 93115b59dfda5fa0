#include "aggregator/detail/dispatcher.hpp"

#include <algorithm>

namespace dither {

bool Dispatcher::join(PeerId peer, std::uint32_t hosted) {
    if (knows(peer) || (hosted != kAnyClient && hosts_.contains(hosted)))
        return false;
    peers_[peer].hosted = hosted;
    if (hosted != kAnyClient)
        hosts_[hosted] = peer;
    return true;
}

void Dispatcher::lose(PeerId peer) {
    forget(peer, true);
}

void Dispatcher::leave(PeerId peer) {
    forget(peer, false);
}

void Dispatcher::forget(PeerId peer, bool blamed) {
    const auto at = peers_.find(peer);
    if (at == peers_.end())
        return;
    // The first is the one that it was at; those behind it have done nothing.
    const std::vector<Task>& tasks = at->second.in_flight;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        if (tasks[i].round != round_)
            continue;
        if (blamed && i == 0 && ++losses_[tasks[i].client] == kPeersATaskMayLose)
            poisonous_.push_back(tasks[i].client);
        else
            waiting_.push_front(tasks[i].client);
    }
    hosts_.erase(at->second.hosted);
    peers_.erase(at);
}

std::optional<PeerId> Dispatcher::host_of(std::uint32_t client) const {
    const auto host = hosts_.find(client);
    return host == hosts_.end() ? std::nullopt : std::optional(host->second);
}

std::vector<PeerId> Dispatcher::peers() const {
    std::vector<PeerId> ids;
    for (const auto& [id, peer] : peers_)
        ids.push_back(id);
    return ids;
}

void Dispatcher::start(std::uint32_t round, std::span<const std::uint32_t> clients) {
    round_ = round;
    waiting_.assign(clients.begin(), clients.end());
    poisonous_.clear();
    losses_.clear();
}

std::optional<Dispatcher::Assignment> Dispatcher::next() {
    const auto worker = least_loaded_worker();
    if (!worker && hosts_.empty())
        return std::nullopt;
    for (auto client = waiting_.begin(); client != waiting_.end(); ++client) {
        const auto peer = host_with_room(*client, worker);
        if (!peer)
            continue;
        const Assignment assignment{*peer, {round_, *client}};
        peers_.at(*peer).in_flight.push_back(assignment.task);
        waiting_.erase(client);
        return assignment;
    }
    return std::nullopt;
}

std::vector<std::uint32_t> Dispatcher::take_unreachable(const std::function<bool(std::uint32_t)>& given_up) {
    std::vector<std::uint32_t> unreachable;
    if (peers_.size() > hosts_.size())  // a worker takes any client, sooner or later
        return unreachable;
    std::erase_if(waiting_, [&](std::uint32_t client) {
        if (hosts_.contains(client) || (given_up && !given_up(client)))
            return false;
        unreachable.push_back(client);
        return true;
    });
    return unreachable;
}

bool Dispatcher::finish(PeerId peer, const Task& task) {
    const auto at = peers_.find(peer);
    return at != peers_.end() && std::erase(at->second.in_flight, task) > 0;
}

std::optional<PeerId> Dispatcher::least_loaded_worker() const {
    if (peers_.size() == hosts_.size())  // each speaks for a client
        return std::nullopt;
    std::optional<PeerId> best;
    std::size_t load = kTasksInFlight;
    for (const auto& [id, peer] : peers_) {
        if (peer.hosted == kAnyClient && peer.in_flight.size() < load) {
            best = id;
            load = peer.in_flight.size();
        }
    }
    return best;
}

std::optional<PeerId> Dispatcher::host_with_room(std::uint32_t client, std::optional<PeerId> worker) const {
    const auto host = host_of(client);
    if (!host)
        return worker;
    return peers_.at(*host).in_flight.size() < kTasksInFlight ? host : std::nullopt;
}

}  // namespace dither
