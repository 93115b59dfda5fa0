// Which peer trains which client: pure bookkeeping between the sampled clients and the peers that can host them.
#pragma once

#include "transport/hub.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace dither {

/// A client's task goes to the peer that speaks for this client, else to the least loaded worker that hosts any client.
/// Tasks of a lost peer go to another one that can take them, unless a task has already lost kPeersATaskMayLose: then
/// it is taken for what ends its peers. Not thread-safe.
class Dispatcher {
public:
    /// In flight at a peer: one that it trains and one that is ready when it is done.
    static constexpr std::size_t kTasksInFlight = 2;

    /// A third peer is not risked for a task that two did not survive.
    static constexpr int kPeersATaskMayLose = 2;

    struct Task {
        std::uint32_t round = 0;
        std::uint32_t client = 0;
        bool operator==(const Task&) const = default;
    };
    struct Assignment {
        PeerId peer = 0;
        Task task;
        bool operator==(const Assignment&) const = default;
    };

    /// `hosted`: a client, or kAnyClient. False if the peer is in already or another one speaks for the client.
    bool join(PeerId peer, std::uint32_t hosted);
    /// Forgets the peer; its tasks of this round wait for another one, or for this one under another id.
    void lose(PeerId peer);
    /// Likewise, and none of its tasks is blamed for it.
    void leave(PeerId peer);
    bool knows(PeerId peer) const { return peers_.contains(peer); }
    /// The peer that speaks for `client`, if there is one.
    std::optional<PeerId> host_of(std::uint32_t client) const;
    std::vector<PeerId> peers() const;
    std::size_t size() const { return peers_.size(); }

    /// Begins a round: tasks of an earlier one are no longer handed out, but those in flight keep their peers busy.
    void start(std::uint32_t round, std::span<const std::uint32_t> clients);
    /// The next task that a peer has room for, now in flight there.
    std::optional<Assignment> next();
    /// Waiting clients that no peer could take and that `given_up` says yes to (by default: all); they wait no longer.
    std::vector<std::uint32_t> take_unreachable(const std::function<bool(std::uint32_t client)>& given_up = {});
    /// Clients of this round whose task has lost too many peers; each is returned once.
    std::vector<std::uint32_t> take_poisonous() { return std::exchange(poisonous_, {}); }
    /// The peer has answered. False if it was not asked.
    bool finish(PeerId peer, const Task& task);
    /// A client of this round whose task has been answered waits again, before all others.
    void ask_again(std::uint32_t client) { waiting_.push_front(client); }

private:
    struct Peer {
        std::uint32_t hosted = kAnyClient;
        std::vector<Task> in_flight;
    };

    /// Its tasks of this round wait again, but for the one that it was at, if `blamed` and that has lost too many.
    void forget(PeerId peer, bool blamed);
    std::optional<PeerId> least_loaded_worker() const;
    /// The peer that `client` may go to now.
    std::optional<PeerId> host_with_room(std::uint32_t client, std::optional<PeerId> worker) const;

    std::uint32_t round_ = 0;
    std::deque<std::uint32_t> waiting_;  ///< clients of this round
    std::vector<std::uint32_t> poisonous_;
    std::map<std::uint32_t, int> losses_;  ///< of clients of this round: the peers that their tasks have lost
    std::map<PeerId, Peer> peers_;
    std::map<std::uint32_t, PeerId> hosts_;  ///< of clients that a peer speaks for
};

}  // namespace dither
