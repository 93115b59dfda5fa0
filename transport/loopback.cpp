#include "transport/loopback.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

namespace dither {
namespace {

using Frame = std::vector<std::byte>;
constexpr std::chrono::milliseconds kPatience{100};

struct Peer {
    std::condition_variable heard;
    std::deque<Frame> frames;  ///< to the peer
    FrameLimits limits;        ///< on what it may say
    bool open = true;          ///< false once either end has let go
};

/// What the hub has not looked at yet. A peer leaves by an arrival without a frame.
struct Arrival {
    PeerId peer = 0;
    std::optional<Frame> frame;
};

}  // namespace

/// One mutex guards everything; each waiting thread has its own condition.
struct LoopbackHub::State {
    std::mutex mutex;
    std::condition_variable heard;
    std::deque<PeerId> joined;
    std::deque<Arrival> arrivals;
    std::vector<std::unique_ptr<Peer>> peers;  ///< peer p is peers[p - 1]: numbered as MPI ranks are
    bool closed = false;

    Peer& peer(PeerId id) {
        require(id >= 1 && id <= peers.size(), "peer {} of {}", id, peers.size());
        return *peers[id - 1];
    }

    /// The mutex is held.
    void hang_up(PeerId id) {
        peer(id).open = false;
        peer(id).heard.notify_one();
    }

    /// The peer is not heard again. The mutex is held.
    void drop(PeerId id) {
        hang_up(id);
        std::erase_if(arrivals, [&](const Arrival& arrival) { return arrival.peer == id; });
    }
};

class LoopbackHub::End final : public Channel {
public:
    End(std::shared_ptr<State> state, PeerId id) : state_(std::move(state)), id_(id) {}
    End(const End&) = delete;
    End& operator=(const End&) = delete;

    ~End() override {
        const std::lock_guard lock(state_->mutex);
        Peer& self = state_->peer(id_);
        if (std::exchange(self.open, false))
            arrive(std::nullopt);
        self.frames.clear();
    }

    std::optional<Message> receive() override {
        std::unique_lock lock(state_->mutex);
        Peer& self = state_->peer(id_);
        self.heard.wait(lock, [&] { return !self.frames.empty() || !self.open; });
        if (self.frames.empty())
            return std::nullopt;
        Frame frame = std::move(self.frames.front());
        self.frames.pop_front();
        lock.unlock();
        return decode_frame(std::move(frame), FrameLimits::for_node());
    }

    void send(const Message& message) override {
        Frame frame = encode_frame(message);
        const std::lock_guard lock(state_->mutex);
        if (state_->peer(id_).open)
            arrive(std::move(frame));
    }

private:
    void arrive(std::optional<Frame> frame) {
        state_->arrivals.push_back({id_, std::move(frame)});
        state_->heard.notify_one();
    }

    std::shared_ptr<State> state_;
    PeerId id_;
};

LoopbackHub::LoopbackHub() : state_(std::make_shared<State>()) {}

LoopbackHub::~LoopbackHub() {
    close();
}

std::unique_ptr<Channel> LoopbackHub::connect() {
    const std::lock_guard lock(state_->mutex);
    require(!state_->closed, "a closed hub takes no peers");
    state_->peers.push_back(std::make_unique<Peer>());
    const auto id = static_cast<PeerId>(state_->peers.size());
    state_->joined.push_back(id);
    return std::make_unique<End>(state_, id);
}

std::optional<HubEvent> LoopbackHub::next_event(Clock::time_point deadline) {
    std::unique_lock lock(state_->mutex);
    const auto until = std::min(deadline, Clock::now() + kPatience);
    if (!state_->heard.wait_until(lock, until, [&] { return !state_->joined.empty() || !state_->arrivals.empty(); }))
        return std::nullopt;
    if (!state_->joined.empty()) {
        const PeerId peer = state_->joined.front();
        state_->joined.pop_front();
        return PeerJoined{peer};
    }
    Arrival arrival = std::move(state_->arrivals.front());
    state_->arrivals.pop_front();
    if (!arrival.frame)
        return PeerLost{arrival.peer, "the peer has left"};
    const FrameLimits limits = state_->peer(arrival.peer).limits;
    lock.unlock();
    try {
        const std::size_t wire_bytes = arrival.frame->size();
        return Received{arrival.peer, decode_frame(*std::move(arrival.frame), limits), wire_bytes};
    } catch (const FormatError& error) {
        lock.lock();
        state_->drop(arrival.peer);
        return PeerLost{arrival.peer, error.what()};
    }
}

std::size_t LoopbackHub::send(PeerId peer, const Message& message) {
    Frame frame = encode_frame(message);
    const std::size_t size = frame.size();
    const std::lock_guard lock(state_->mutex);
    Peer& to = state_->peer(peer);
    if (!to.open)
        return 0;
    to.frames.push_back(std::move(frame));
    to.heard.notify_one();
    return size;
}

void LoopbackHub::admit(PeerId peer, const FrameLimits& limits) {
    const std::lock_guard lock(state_->mutex);
    state_->peer(peer).limits = limits;
}

void LoopbackHub::drop(PeerId peer, const std::string& reason) {
    send(peer, Stop{reason});
    const std::lock_guard lock(state_->mutex);
    std::erase(state_->joined, peer);
    state_->drop(peer);
}

void LoopbackHub::close() {
    const std::lock_guard lock(state_->mutex);
    state_->closed = true;
    state_->joined.clear();
    state_->arrivals.clear();
    for (PeerId peer = 1; peer <= state_->peers.size(); ++peer)
        state_->hang_up(peer);
}

}  // namespace dither
