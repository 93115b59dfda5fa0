// A hub whose network, nodes and clock are simulated: a whole federation in one thread, as fast as its work allows and
// the same in every run, whatever goes wrong in it. After FoundationDB (Zhou et al., "FoundationDB: A distributed
// unbundled transactional key value store", SIGMOD 2021): the code under test is the production code, the world around
// it is deterministic and hostile.
#pragma once

#include "core/rng.hpp"
#include "transport/hub.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace dither {

/// The aggregator's process dies here. No std::exception: nothing that handles failures can go on after it.
struct SimulatedCrash {};

/// What a node does about what it hears: it is busy for a while and deaf meanwhile, and says this then.
struct Reaction {
    using Frame = std::vector<std::byte>;

    Clock::duration busy{0};
    std::vector<Frame> frames{};  ///< encode_frame's, or whatever a hostile node says
    bool hang_up = false;         ///< once that is said
};

/// A node's program: what runs between its start and its crash. A connection that breaks does not end it.
class SimulatedNode {
public:
    virtual ~SimulatedNode() = default;

    virtual Reaction connected() = 0;
    /// A FormatError that it throws is an answer, too: it hangs up.
    virtual Reaction heard(const Message& message) = 0;
    /// There is no connection: it was lost, could not be made, or this is the start. After how long to try; nothing:
    /// never again.
    virtual std::optional<Clock::duration> away() = 0;
};

/// What can happen to a frame on its way, each with a chance of its own, in [0, 1].
struct LinkFaults {
    double loss = 0;         ///< the connection breaks; this frame and all behind it are lost
    double corruption = 0;   ///< some bytes are others, or missing
    double duplication = 0;  ///< it arrives twice
    double reordering = 0;   ///< it may arrive behind later ones
    double replay = 0;       ///< an earlier frame of the same way comes again; to the aggregator also one of an earlier
                             ///< connection
};

struct SimulatedNetworkOptions {
    std::uint32_t seed = 1;
    Clock::duration least_delay = std::chrono::milliseconds(1);  ///< of a frame; delays are log-uniform
    Clock::duration most_delay = std::chrono::milliseconds(200);
    LinkFaults faults{};
    Clock::duration faults_end{0};                    ///< since the start; frames fare well from then on
    Clock::duration dead = std::chrono::seconds(45);  ///< after so long without a sign an end takes the other for lost
    /// Told of everything that happens, a line each, without its end; null: nobody.
    std::function<void(const std::string& line)> trace = nullptr;
};

/// The aggregator's hub, its nodes, and the time that passes for all of them. A connection carries frames in order,
/// each once, until it breaks; what is on its way then is lost, and either end hears of it late. Frames really are
/// encoded, checked and decoded. One thread; the aggregator runs in calls of its own, in which virtual time stands
/// still but for what next_event() and work() take.
class SimulatedNetwork final : public Hub {
public:
    using Program = std::function<std::unique_ptr<SimulatedNode>()>;
    using NodeId = std::size_t;

    explicit SimulatedNetwork(SimulatedNetworkOptions options);

    /// A node that starts now. `program` starts it again after each crash. `identity`: what its connections prove.
    NodeId add(std::string identity, Program program);

    Clock::time_point now() const { return now_; }
    Clock::duration elapsed() const { return now_ - kStart; }
    /// At that time since the start, or now if that is past.
    void at(Clock::duration since_start, std::function<void()> action);

    // Disasters. Each may be called at any time, from at(), too.

    /// The node's program and all that it remembers are gone. It starts again after `pause`.
    void crash(NodeId node, Clock::duration pause);
    /// The node's connection breaks, if it has one.
    void cut(NodeId node);
    /// Nothing reaches the node, nor the aggregator from it, for so long. What was sent arrives afterwards, unless one
    /// end has given the other up by then.
    void isolate(NodeId node, Clock::duration length);
    /// The aggregator dies: its next call of next_event() or work() throws SimulatedCrash, and nothing that it sends
    /// arrives any more.
    void crash_aggregator();
    /// The same at the n-th call from now of next_event(), send(), drop() or work().
    void crash_aggregator_after(std::uint64_t calls) { calls_left_ = calls; }

    /// Whether the aggregator is dead.
    bool crashed() const { return crashed_; }
    /// The aggregator starts as a new process after `pause`, in which nodes find nobody.
    void restart_aggregator(Clock::duration pause);
    /// The aggregator is busy for so long: its disk is writing, say. Throws SimulatedCrash if it dies meanwhile, but
    /// not while another exception is on its way.
    void work(Clock::duration length);

    std::size_t connections() const;  ///< that the aggregator has not closed or lost

    std::optional<HubEvent> next_event(Clock::time_point deadline) override;
    std::size_t send(PeerId peer, const Message& message) override;
    void admit(PeerId peer, const FrameLimits& limits) override;
    void drop(PeerId peer, const std::string& reason) override;
    void close() override;
    bool peers_return() const override { return true; }

private:
    using Frame = Reaction::Frame;
    enum class Way : std::uint8_t { up, down };  ///< to the aggregator, to the node
    static std::size_t index_of(Way way) { return static_cast<std::size_t>(way); }

    struct Node {
        std::string identity;
        Program start;
        std::unique_ptr<SimulatedNode> program;  ///< null while it is down
        std::uint32_t life = 0;                  ///< counts its crashes: what an earlier one has set off does not count
        PeerId connection = 0;                   ///< as the node knows; 0: none
        std::deque<std::optional<Frame>> inbox;  ///< nothing: the connection is lost
        bool busy = false;
        Clock::time_point reachable{};  ///< from then on
        std::deque<Frame> said[2];      ///< the last frames of each way
    };
    struct Connection {
        NodeId node = 0;
        FrameLimits limits{};           ///< on what the node may say
        bool wire = true;               ///< carries anything
        bool open = true;               ///< the aggregator has neither closed nor lost it
        Clock::time_point earliest[2];  ///< of the next frame, each way
    };
    struct Arrival {
        PeerId peer = 0;
        std::optional<Frame> frame{};
        std::string lost{};  ///< why; empty: it has joined, if there is no frame
    };

    static constexpr Clock::time_point kStart{std::chrono::hours(1)};

    // Time.
    void after(Clock::duration delay, std::function<void()> action);
    void advance(Clock::time_point until, bool stop_at_arrival);
    void count_call();
    [[nodiscard]] bool dies_now() const;
    Clock::duration delay();
    Clock::duration lateness();
    bool chance(double probability);
    bool happens(double probability) { return elapsed() < options_.faults_end && chance(probability); }
    void trace(const std::string& line) const;
    void note(NodeId node, const std::string& line) const;

    // Frames.
    void transmit(PeerId peer, Way way, Frame frame);
    void carry(PeerId peer, Way way, Frame frame, bool in_order);
    void arrive(PeerId peer, Way way, Frame frame);
    void damage(Frame& frame);
    std::optional<HubEvent> read(Arrival arrival);

    // Connections.
    void connect_later(NodeId node);
    void connect(NodeId node);
    void break_wire(PeerId peer, Clock::duration hub_hears, Clock::duration node_hears, const std::string& why);
    void tell_hub(PeerId peer, Clock::duration delay, const std::string& why);
    void tell_node(PeerId peer, Clock::duration delay);
    void forget(PeerId peer);
    void end_connections(bool delivered);
    Connection& connection(PeerId peer);

    // Nodes.
    void start(NodeId node);
    void run(NodeId node);
    void react(NodeId node, Reaction reaction);
    void hang_up(NodeId node);
    void leave(NodeId node);

    SimulatedNetworkOptions options_;
    Stream stream_;
    Clock::time_point now_ = kStart;
    std::multimap<Clock::time_point, std::function<void()>> agenda_;
    std::vector<Node> nodes_;
    std::map<PeerId, Connection> connections_;
    PeerId last_peer_ = 0;
    std::deque<Arrival> arrivals_;
    std::uint64_t calls_left_ = 0;  ///< until the aggregator dies; 0: it does not
    bool crashed_ = false;
    bool listening_ = true;
};

}  // namespace dither
