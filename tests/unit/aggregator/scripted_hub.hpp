// A hub without threads, on a virtual clock: what peers say to what they hear is a function of the test.
#pragma once

#include "transport/hub.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace dither::test {

/// Peers come back under new numbers. When nothing is left to hear, time goes on to the deadline, at most by a second.
class ScriptedHub final : public Hub {
public:
    struct Sent {
        PeerId peer = 0;
        Message message;
    };

    std::function<void(PeerId peer, const Message& message)> on_send = [](PeerId, const Message&) {};
    std::function<void()> on_idle = [] {};  ///< before time goes on
    bool returning = true;

    PeerId connect(const std::string& identity = {}) {
        const PeerId peer = ++last_;
        open_.insert(peer);
        events_.push_back(PeerJoined{peer, identity});
        return peer;
    }
    void say(PeerId peer, const Message& message) {
        if (open_.contains(peer))
            events_.push_back(Received{peer, message, encode_frame(message).size()});
    }
    void hang_up(PeerId peer) {
        if (open_.erase(peer) > 0)
            events_.push_back(PeerLost{peer, "the link is down"});
    }
    /// A peer that says hello.
    PeerId join(const std::string& node, std::uint32_t client = kAssignedClient, const std::string& identity = {}) {
        const PeerId peer = connect(identity);
        say(peer, Hello{.node = node, .client = client});
        return peer;
    }

    bool is_open(PeerId peer) const { return open_.contains(peer); }
    const std::vector<Sent>& sent() const { return sent_; }
    /// The last of this type to `peer`; null if there was none.
    template <typename Type>
    const Type* last_to(PeerId peer) const {
        for (auto at = sent_.rbegin(); at != sent_.rend(); ++at)
            if (at->peer == peer && std::holds_alternative<Type>(at->message))
                return &std::get<Type>(at->message);
        return nullptr;
    }
    Clock::time_point now() const { return now_; }
    /// At this time, once nothing is left to hear before.
    void at(Clock::duration elapsed, std::function<void()> what) {
        later_.emplace(Clock::time_point{} + elapsed, std::move(what));
    }

    std::optional<HubEvent> next_event(Clock::time_point deadline) override {
        if (events_.empty() && deadline > now_)
            wait(deadline);
        if (events_.empty())
            return std::nullopt;
        HubEvent event = std::move(events_.front());
        events_.pop_front();
        return event;
    }
    std::size_t send(PeerId peer, const Message& message) override {
        if (!is_open(peer))
            return 0;
        sent_.push_back({peer, message});
        on_send(peer, message);
        return encode_frame(message).size();
    }
    void admit(PeerId, const FrameLimits&) override {}
    void drop(PeerId peer, const std::string& reason) override {
        send(peer, Stop{reason});
        open_.erase(peer);
        std::erase_if(events_, [&](const HubEvent& event) {
            return std::visit([](const auto& e) { return e.peer; }, event) == peer;
        });
    }
    void close() override { open_.clear(); }
    bool peers_return() const override { return returning; }

private:
    void wait(Clock::time_point deadline) {
        constexpr int kTooLong = 1'000'000;
        if (++waits_ > kTooLong)
            throw std::logic_error("nothing will ever happen");
        on_idle();
        if (!events_.empty())
            return;
        now_ = std::min(deadline, now_ + std::chrono::seconds(1));
        if (!later_.empty() && later_.begin()->first <= now_) {
            const auto what = later_.extract(later_.begin());
            now_ = std::max(what.key(), now_ - std::chrono::seconds(1));
            what.mapped()();
        }
    }

    PeerId last_ = 0;
    std::set<PeerId> open_;
    std::deque<HubEvent> events_;
    std::vector<Sent> sent_;
    std::multimap<Clock::time_point, std::function<void()>> later_;
    Clock::time_point now_{};
    int waits_ = 0;
};

}  // namespace dither::test
