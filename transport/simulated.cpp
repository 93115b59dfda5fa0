#include "transport/simulated.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <exception>
#include <utility>

namespace dither {

namespace {

using namespace std::chrono_literals;

constexpr Clock::duration kPatience = 100ms;    // of next_event
constexpr Clock::duration kConnecting = 10s;    // until a node gives up an attempt that nobody answers
constexpr Clock::duration kHeartbeat = 15s;     // the last sign of a connection may be so old when it breaks
constexpr Clock::duration kNextInOrder = 1ns;   // behind the frame before
constexpr std::size_t kReplayable = 8;          // frames remembered, each way
constexpr std::uint32_t kFractions = 1U << 20;  // of a duration that is drawn

/// "type (bytes)" for traces; whatever a hostile frame says.
std::string describe(const Reaction::Frame& frame) {
    try {
        return fmt::format("{} ({} bytes)", name_of(decode_frame(frame, FrameLimits::for_node())), frame.size());
    } catch (const FormatError&) {
        return fmt::format("no frame ({} bytes)", frame.size());
    }
}

}  // namespace

SimulatedNetwork::SimulatedNetwork(SimulatedNetworkOptions options)
    : options_(std::move(options)), stream_({.seed = options_.seed, .purpose = Purpose::test, .lane = 1}) {
    require(options_.least_delay > 0ns && options_.least_delay <= options_.most_delay, "delays of {} to {} ns",
            options_.least_delay.count(), options_.most_delay.count());
}

SimulatedNetwork::NodeId SimulatedNetwork::add(std::string identity, Program program) {
    const NodeId node = nodes_.size();
    nodes_.push_back({.identity = std::move(identity), .start = std::move(program)});
    start(node);
    return node;
}

// Time

void SimulatedNetwork::at(Clock::duration since_start, std::function<void()> action) {
    agenda_.emplace(std::max(now_, kStart + since_start), std::move(action));
}

void SimulatedNetwork::after(Clock::duration delay, std::function<void()> action) {
    agenda_.emplace(now_ + delay, std::move(action));
}

void SimulatedNetwork::advance(Clock::time_point until, bool stop_at_arrival) {
    const auto is_interrupted = [&] { return crashed_ || (stop_at_arrival && !arrivals_.empty()); };
    while (!is_interrupted() && !agenda_.empty() && agenda_.begin()->first <= until) {
        auto next = agenda_.extract(agenda_.begin());
        now_ = std::max(now_, next.key());
        next.mapped()();
    }
    if (!is_interrupted())
        now_ = std::max(now_, until);
}

void SimulatedNetwork::count_call() {
    if (calls_left_ > 0 && --calls_left_ == 0)
        crash_aggregator();
}

bool SimulatedNetwork::dies_now() const {
    return crashed_ && std::uncaught_exceptions() == 0;
}

void SimulatedNetwork::work(Clock::duration length) {
    count_call();
    if (!crashed_)
        advance(now_ + length, false);
    if (dies_now())
        throw SimulatedCrash{};
}

Clock::duration SimulatedNetwork::delay() {
    std::uint32_t octaves = 1;
    while (options_.least_delay * (std::int64_t{1} << octaves) < options_.most_delay)
        ++octaves;
    const Clock::duration octave = options_.least_delay * (std::int64_t{1} << stream_.below(octaves));
    return std::min(octave + octave / kFractions * stream_.below(kFractions), options_.most_delay);
}

/// Until an end hears that a connection broke: at once, or when the other one has been silent for too long.
Clock::duration SimulatedNetwork::lateness() {
    const Clock::duration longest = options_.dead + kHeartbeat;
    return chance(0.5) ? delay() : longest / kFractions * stream_.below(kFractions);
}

bool SimulatedNetwork::chance(double probability) {
    return probability > 0 && static_cast<double>(stream_.uniform()) < probability;
}

void SimulatedNetwork::trace(const std::string& line) const {
    if (options_.trace)
        options_.trace(fmt::format("{:12.6f} {}", std::chrono::duration<double>(elapsed()).count(), line));
}

void SimulatedNetwork::note(NodeId node, const std::string& line) const {
    trace(fmt::format("node {}: {}", node, line));
}

// Frames

void SimulatedNetwork::transmit(PeerId peer, Way way, Frame frame) {
    const LinkFaults& faults = options_.faults;
    const NodeId id = connection(peer).node;
    Node& node = nodes_[id];
    if (!connection(peer).wire)
        return;
    if (options_.trace)
        note(id, fmt::format("connection {} {} {}", peer, way == Way::up ? "says" : "is sent", describe(frame)));
    if (happens(faults.loss))
        return break_wire(peer, lateness(), lateness(), "the connection broke");
    std::deque<Frame>& said = node.said[index_of(way)];
    said.push_back(frame);
    if (said.size() > kReplayable)
        said.pop_front();
    if (happens(faults.duplication))
        carry(peer, way, frame, chance(0.5));
    if (happens(faults.corruption))
        damage(frame);
    carry(peer, way, std::move(frame), !happens(faults.reordering));
    if (happens(faults.replay))
        carry(peer, way, said[stream_.below(static_cast<std::uint32_t>(said.size()))], true);
}

void SimulatedNetwork::carry(PeerId peer, Way way, Frame frame, bool in_order) {
    Clock::time_point& earliest = connection(peer).earliest[index_of(way)];
    Clock::time_point arrival = now_ + delay();
    if (in_order) {
        arrival = std::max(arrival, earliest);
        earliest = arrival + kNextInOrder;
    }
    agenda_.emplace(arrival,
                    [this, peer, way, frame = std::move(frame)]() mutable { arrive(peer, way, std::move(frame)); });
}

void SimulatedNetwork::arrive(PeerId peer, Way way, Frame frame) {
    const Connection& on = connection(peer);
    Node& node = nodes_[on.node];
    if (!on.wire)
        return;
    if (now_ < node.reachable) {
        agenda_.emplace(node.reachable,
                        [this, peer, way, frame = std::move(frame)]() mutable { arrive(peer, way, std::move(frame)); });
    } else if (way == Way::up && on.open) {
        arrivals_.push_back({.peer = peer, .frame = std::move(frame)});
    } else if (way == Way::down && node.connection == peer) {
        node.inbox.emplace_back(std::move(frame));
        run(on.node);
    }
}

void SimulatedNetwork::damage(Frame& frame) {
    const auto place = [&] { return stream_.below(static_cast<std::uint32_t>(frame.size())); };
    if (frame.empty())
        return;
    if (chance(0.2))
        return frame.resize(place());
    for (std::uint32_t left = 1 + stream_.below(3); left > 0; --left)
        frame[place()] ^= static_cast<std::byte>(1 + stream_.below(255));
}

// Connections

SimulatedNetwork::Connection& SimulatedNetwork::connection(PeerId peer) {
    const auto at = connections_.find(peer);
    require(at != connections_.end(), "peer {} of {}", peer, last_peer_);
    return at->second;
}

std::size_t SimulatedNetwork::connections() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(connections_, [](const auto& one) { return one.second.open; }));
}

void SimulatedNetwork::connect_later(NodeId id) {
    const auto wait = nodes_[id].program->away();
    if (!wait)
        return;
    after(*wait + delay(), [this, id, life = nodes_[id].life] {
        if (nodes_[id].life == life)
            connect(id);
    });
}

void SimulatedNetwork::connect(NodeId id) {
    Node& node = nodes_[id];
    if (now_ < node.reachable)
        return after(kConnecting, [this, id, life = node.life] {
            if (nodes_[id].life == life)
                connect_later(id);
        });
    if (crashed_ || !listening_)
        return connect_later(id);
    const PeerId peer = ++last_peer_;
    connections_[peer] = {.node = id, .limits = {}, .earliest = {now_, now_}};
    node.connection = peer;
    node.said[index_of(Way::down)].clear();
    note(id, fmt::format("connection {} is made", peer));
    arrivals_.push_back({.peer = peer});
    react(id, node.program->connected());
}

void SimulatedNetwork::break_wire(PeerId peer, Clock::duration hub_hears, Clock::duration node_hears,
                                  const std::string& why) {
    connection(peer).wire = false;
    note(connection(peer).node, fmt::format("connection {}: {}", peer, why));
    tell_node(peer, node_hears);
    tell_hub(peer, hub_hears, why);
}

void SimulatedNetwork::tell_hub(PeerId peer, Clock::duration delay, const std::string& why) {
    after(delay, [this, peer, why] {
        if (connection(peer).open)
            arrivals_.push_back({.peer = peer, .lost = why});
    });
}

/// That the connection has ended.
void SimulatedNetwork::tell_node(PeerId peer, Clock::duration delay) {
    after(delay, [this, peer] {
        const NodeId id = connection(peer).node;
        Node& node = nodes_[id];
        if (node.connection != peer)
            return;
        if (now_ < node.reachable)
            return tell_node(peer, node.reachable - now_);
        node.inbox.emplace_back();
        run(id);
    });
}

/// The aggregator closes its end: it hears of the peer no more, and the node hears of that after all that was said.
void SimulatedNetwork::forget(PeerId peer) {
    connection(peer).open = false;
    std::erase_if(arrivals_, [&](const Arrival& arrival) { return arrival.peer == peer; });
    const Clock::time_point last = connection(peer).earliest[index_of(Way::down)];
    tell_node(peer, std::max(last - now_, Clock::duration(0)) + delay());
}

// Disasters

void SimulatedNetwork::cut(NodeId node) {
    if (const PeerId peer = nodes_[node].connection; peer != 0)
        break_wire(peer, lateness(), lateness(), "the connection is cut");
}

void SimulatedNetwork::isolate(NodeId id, Clock::duration length) {
    Node& node = nodes_[id];
    note(id, fmt::format("is isolated for {} s", std::chrono::duration<double>(length).count()));
    node.reachable = std::max(node.reachable, now_ + length);
    const auto silence = [&] { return options_.dead - kHeartbeat / kFractions * stream_.below(kFractions); };
    if (length >= options_.dead && node.connection != 0)
        break_wire(node.connection, silence(), silence(), "silent for too long");
}

/// A killed process's kernel still delivers what it has said; a machine without power does not.
void SimulatedNetwork::crash_aggregator() {
    if (!listening_)
        return;
    trace("the aggregator crashes");
    crashed_ = true;
    end_connections(chance(0.5));
}

void SimulatedNetwork::restart_aggregator(Clock::duration pause) {
    listening_ = crashed_ = false;
    calls_left_ = 0;
    advance(now_ + pause, false);
    arrivals_.clear();
    listening_ = true;
    trace("the aggregator starts");
}

void SimulatedNetwork::end_connections(bool delivered) {
    listening_ = false;
    calls_left_ = 0;
    for (auto& [peer, connection] : connections_) {
        if (!connection.open)
            continue;
        forget(peer);
        if (!delivered) {
            connection.wire = false;
            tell_node(peer, lateness());
        }
    }
    arrivals_.clear();
}

// The aggregator's end

std::optional<HubEvent> SimulatedNetwork::next_event(Clock::time_point deadline) {
    count_call();
    if (arrivals_.empty() && !crashed_)
        advance(std::min(deadline, now_ + kPatience), true);
    if (dies_now())
        throw SimulatedCrash{};
    while (!arrivals_.empty()) {
        Arrival arrival = std::move(arrivals_.front());
        arrivals_.pop_front();
        if (auto event = read(std::move(arrival)))
            return event;
    }
    return std::nullopt;
}

std::optional<HubEvent> SimulatedNetwork::read(Arrival arrival) {
    const PeerId peer = arrival.peer;
    Connection& on = connection(peer);
    if (!on.open)
        return std::nullopt;
    try {
        if (arrival.frame) {
            const std::size_t wire_bytes = arrival.frame->size();
            Message message = decode_frame(*std::move(arrival.frame), on.limits);
            if (std::holds_alternative<Heartbeat>(message))
                return std::nullopt;
            return Received{peer, std::move(message), wire_bytes};
        }
    } catch (const FormatError& error) {
        arrival.lost = error.what();
    }
    if (arrival.lost.empty())
        return PeerJoined{peer, nodes_[on.node].identity};
    note(on.node, fmt::format("connection {} is lost: {}", peer, arrival.lost));
    forget(peer);
    return PeerLost{peer, std::move(arrival.lost)};
}

std::size_t SimulatedNetwork::send(PeerId peer, const Message& message) {
    Frame frame = encode_frame(message);
    const std::size_t size = frame.size();
    count_call();
    if (!connection(peer).open)
        return 0;
    transmit(peer, Way::down, std::move(frame));
    return size;
}

void SimulatedNetwork::admit(PeerId peer, const FrameLimits& limits) {
    connection(peer).limits = limits;
}

void SimulatedNetwork::drop(PeerId peer, const std::string& reason) {
    send(peer, Stop{reason});
    if (connection(peer).open)
        forget(peer);
}

void SimulatedNetwork::close() {
    if (listening_)
        end_connections(true);
}

}  // namespace dither
