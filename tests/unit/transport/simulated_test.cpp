#include "transport/simulated.hpp"

#include "core/error.hpp"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace {

using namespace dither;
using namespace std::chrono_literals;

/// Says hello, and then each acknowledgement's reason as a node's name.
class Echo final : public SimulatedNode {
public:
    Echo(std::vector<std::string>& heard, Clock::duration pause) : heard_(heard), pause_(pause) {}

    Reaction connected() override { return {.frames = {encode_frame(Hello{.node = "echo"})}}; }
    Reaction heard(const Message& message) override {
        if (const auto* stop = std::get_if<Stop>(&message)) {
            heard_.push_back(stop->reason);
            return {.hang_up = true};
        }
        heard_.push_back(std::get<UpdateAck>(message).reason);
        return {.busy = 1s, .frames = {encode_frame(Hello{.node = heard_.back()})}};
    }
    std::optional<Clock::duration> away() override { return std::exchange(next_pause_, pause_); }

private:
    std::vector<std::string>& heard_;
    Clock::duration pause_;
    Clock::duration next_pause_ = 1ms;
};

struct World {
    SimulatedNetwork network;
    std::vector<std::string> heard;

    explicit World(SimulatedNetworkOptions options = {}) : network(std::move(options)) {}

    SimulatedNetwork::NodeId add_echo(Clock::duration pause = 1s) {
        return network.add("echo", [this, pause] { return std::make_unique<Echo>(heard, pause); });
    }
    /// The next event; nothing if there is none for an hour.
    std::optional<HubEvent> await() {
        for (const auto until = network.now() + 1h; network.now() < until;)
            if (auto event = network.next_event(until))
                return event;
        return std::nullopt;
    }
    PeerId await_peer() { return std::get<PeerJoined>(*await()).peer; }
    std::string await_name() { return std::get<Hello>(std::get<Received>(*await()).message).node; }
    void say(PeerId peer, const std::string& name) { network.send(peer, UpdateAck{.reason = name}); }
};

SimulatedNetworkOptions with(const LinkFaults& faults) {
    return {.faults = faults, .faults_end = 24h};
}

}  // namespace

TEST_SUITE("transport/simulated") {
    TEST_CASE("both ends hear what the other says, in order, after a delay, and the hub counts whole frames") {
        World world;
        world.add_echo();
        const auto joined = std::get<PeerJoined>(*world.await());
        CHECK(joined.identity == "echo");
        const auto hello = std::get<Received>(*world.await());
        CHECK(hello.message == Message(Hello{.node = "echo"}));
        CHECK(hello.wire_bytes == encode_frame(hello.message).size());
        const auto before = world.network.now();
        world.say(joined.peer, "a");
        world.say(joined.peer, "b");
        CHECK(world.await_name() == "a");
        CHECK(world.network.now() > before + 1s);
        CHECK(world.await_name() == "b");
        CHECK(world.network.now() > before + 2s);
        CHECK(world.network.now() < before + 3s);
    }

    TEST_CASE("time stands still but for waiting and working") {
        World world;
        const auto start = world.network.now();
        CHECK_FALSE(world.network.next_event(start));
        CHECK(world.network.now() == start);
        CHECK_FALSE(world.network.next_event(start + 20ms));
        CHECK(world.network.now() == start + 20ms);
        CHECK_FALSE(world.network.next_event(Clock::time_point::max()));
        CHECK(world.network.now() == start + 120ms);
        world.network.work(5s);
        CHECK(world.network.now() == start + 120ms + 5s);
    }

    TEST_CASE("equal seeds give equal histories, other ones do not") {
        const auto history = [](std::uint32_t seed) {
            std::string lines;
            SimulatedNetworkOptions options = with({.loss = 0.2, .corruption = 0.2, .duplication = 0.2});
            options.seed = seed;
            options.trace = [&](const std::string& line) { lines += line + '\n'; };
            World world(options);
            world.add_echo();
            for (int i = 0; i < 50; ++i)
                if (const auto event = world.await(); event && std::holds_alternative<Received>(*event))
                    world.say(std::get<Received>(*event).peer, "x");
            return lines;
        };
        CHECK(history(1) == history(1));
        CHECK(history(1) != history(2));
    }

    TEST_CASE("a connection that breaks is lost to both ends, and the node comes back as another peer") {
        World world;
        const auto node = world.add_echo();
        const PeerId first = world.await_peer();
        CHECK(world.await_name() == "echo");
        world.network.cut(node);
        world.say(first, "lost on the way");
        CHECK(std::get<PeerLost>(*world.await()).peer == first);
        CHECK(world.network.send(first, Stop{}) == 0);
        CHECK(world.await_peer() != first);
        CHECK(world.heard.empty());
    }

    TEST_CASE("a corrupt frame loses its sender, and nothing of it is heard") {
        World world(with({.corruption = 1}));
        world.add_echo();
        const PeerId peer = world.await_peer();
        const auto lost = std::get<PeerLost>(*world.await());
        CHECK(lost.peer == peer);
        CHECK_FALSE(lost.reason.empty());
    }

    TEST_CASE("frames may come twice, and late, where the network is told so") {
        World world(with({.duplication = 1}));
        world.add_echo();
        world.await_peer();
        CHECK(world.await_name() == "echo");
        CHECK(world.await_name() == "echo");
    }

    TEST_CASE("what is sent to an isolated node arrives when it is back, unless it was taken for dead") {
        World world;
        const auto node = world.add_echo();
        const PeerId peer = world.await_peer();
        CHECK(world.await_name() == "echo");
        const auto start = world.network.now();
        world.network.isolate(node, 20s);
        world.say(peer, "late");
        CHECK(world.await_name() == "late");
        CHECK(world.network.now() >= start + 20s);
        world.network.isolate(node, 100s);
        world.say(peer, "never");
        CHECK(std::get<PeerLost>(*world.await()).peer == peer);
        CHECK(world.heard.back() == "late");
    }

    TEST_CASE("a node that crashes loses its connection and starts again") {
        World world;
        const auto node = world.add_echo();
        const PeerId first = world.await_peer();
        CHECK(world.await_name() == "echo");
        world.network.crash(node, 200s);
        const auto start = world.network.now();
        CHECK(std::get<PeerLost>(*world.await()).peer == first);
        CHECK(world.await_peer() != first);
        CHECK(world.network.now() >= start + 200s);
    }

    TEST_CASE("a peer that is dropped hears why, and is not heard again") {
        World world;
        world.add_echo(2h);
        const PeerId peer = world.await_peer();
        world.network.drop(peer, "not you");
        CHECK_FALSE(world.await());
        CHECK(world.heard == std::vector<std::string>{"not you"});
        CHECK(world.network.connections() == 0);
    }

    TEST_CASE("a peer that was not admitted cannot say much") {
        class Talker final : public SimulatedNode {
        public:
            Reaction connected() override {
                return {.frames = {encode_frame(Welcome{.job = std::string(100'000, '#')})}};
            }
            Reaction heard(const Message&) override { return {}; }
            std::optional<Clock::duration> away() override { return 1s; }
        };
        World world;
        world.network.add("", [] { return std::make_unique<Talker>(); });
        world.await_peer();
        CHECK(std::holds_alternative<PeerLost>(*world.await()));
        const PeerId peer = world.await_peer();
        world.network.admit(peer, FrameLimits::for_node());
        CHECK(std::holds_alternative<Received>(*world.await()));
    }

    TEST_CASE("an aggregator that dies says and hears nothing more; nodes find the one that starts again") {
        World world;
        world.add_echo();
        const PeerId peer = world.await_peer();
        CHECK(world.await_name() == "echo");
        world.network.crash_aggregator();
        CHECK(world.network.crashed());
        CHECK(world.network.send(peer, Stop{}) == 0);
        CHECK_THROWS_AS(world.network.next_event(Clock::time_point::max()), SimulatedCrash);
        CHECK_THROWS_AS(world.network.work(1s), SimulatedCrash);
        world.network.close();
        world.network.restart_aggregator(3s);
        CHECK_FALSE(world.network.crashed());
        CHECK(world.await_peer() != peer);
        CHECK(world.heard.empty());
    }

    TEST_CASE("an aggregator can be made to die in any of its calls") {
        for (const std::uint64_t calls : {1, 2, 3}) {
            World world;
            world.network.crash_aggregator_after(calls);
            for (std::uint64_t i = 1; i < calls; ++i)
                CHECK_NOTHROW(world.network.work(1ms));
            CHECK_THROWS_AS(world.network.work(1ms), SimulatedCrash);
        }
    }

    TEST_CASE("a hub that is closed delivers what it has said") {
        World world;
        world.add_echo(2h);
        const PeerId peer = world.await_peer();
        world.network.send(peer, Stop{"the end"});
        world.network.close();
        world.network.work(10s);
        CHECK(world.heard == std::vector<std::string>{"the end"});
    }
}
