#include "transport/loopback.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <thread>

namespace {

using namespace dither;
using namespace std::chrono_literals;

/// The next event, however long it takes to come.
HubEvent await(Hub& hub) {
    for (;;)
        if (auto event = hub.next_event(Clock::now() + 1s))
            return *std::move(event);
}

PeerId await_join(Hub& hub) {
    return std::get<PeerJoined>(await(hub)).peer;
}

}  // namespace

TEST_SUITE("transport/loopback") {
    TEST_CASE("both ends hear what the other says, in order, and the hub counts whole frames") {
        LoopbackHub hub;
        const auto channel = hub.connect();
        const PeerId peer = await_join(hub);
        const Message hello = Hello{.node = "n"};
        channel->send(hello);
        channel->send(Stop{.reason = "second"});
        const auto first = std::get<Received>(await(hub));
        CHECK(first.peer == peer);
        CHECK(first.message == hello);
        CHECK(first.wire_bytes == encode_frame(hello).size());
        CHECK(std::get<Received>(await(hub)).message == Message(Stop{.reason = "second"}));

        const Message welcome = Welcome{.job = "seed = 1"};
        CHECK(hub.send(peer, welcome) == encode_frame(welcome).size());
        hub.send(peer, Stop{.reason = "done"});
        CHECK(channel->receive() == welcome);
        CHECK(channel->receive() == Message(Stop{.reason = "done"}));
    }

    TEST_CASE("nothing is returned at the deadline, or after 100 ms without an event") {
        LoopbackHub hub;
        CHECK_FALSE(hub.next_event(Clock::now() - 1s));
        CHECK_FALSE(hub.next_event(Clock::now() + 1ms));
        CHECK_FALSE(hub.next_event(Clock::now() + 24h));
    }

    TEST_CASE("a channel that is destroyed is a lost peer, after all that it said") {
        LoopbackHub hub;
        auto channel = hub.connect();
        const PeerId peer = await_join(hub);
        channel->send(Stop{});
        channel.reset();
        CHECK(hub.send(peer, Stop{}) == 0);
        CHECK(std::get<Received>(await(hub)).message == Message(Stop{}));
        CHECK(std::get<PeerLost>(await(hub)).peer == peer);
        CHECK_FALSE(hub.next_event(Clock::now()));
    }

    TEST_CASE("a frame over the limit loses the peer, which is not heard again and learns of it") {
        LoopbackHub hub;
        const auto channel = hub.connect();
        const PeerId peer = await_join(hub);
        Update update;
        update.payload.resize(100'000);  // over the 64 KiB of the beginning
        channel->send(update);
        channel->send(Stop{});
        const auto lost = std::get<PeerLost>(await(hub));
        CHECK(lost.peer == peer);
        CHECK(lost.reason.find("exceeds the limit") != std::string::npos);
        CHECK_FALSE(hub.next_event(Clock::now()));
        CHECK(hub.send(peer, Stop{}) == 0);
        CHECK_FALSE(channel->receive());
    }

    TEST_CASE("a peer that is admitted may say as much as the model needs, and only that peer may") {
        LoopbackHub hub;
        const auto channel = hub.connect();
        const auto stranger = hub.connect();
        hub.admit(await_join(hub), FrameLimits::for_model(100'000, 1));
        const PeerId unknown = await_join(hub);
        Update update;
        update.payload.resize(400'000);
        channel->send(update);
        CHECK(std::get<Received>(await(hub)).message == Message(update));
        stranger->send(update);
        CHECK(std::get<PeerLost>(await(hub)).peer == unknown);
    }

    TEST_CASE("a dropped peer hears why, and nothing of it is heard again") {
        LoopbackHub hub;
        auto channel = hub.connect();
        const PeerId peer = await_join(hub);
        channel->send(Hello{.node = "n"});
        hub.send(peer, Welcome{.job = "seed = 1"});
        hub.drop(peer, "enough");
        hub.drop(peer, "once more");
        CHECK(hub.send(peer, Stop{}) == 0);
        channel->send(Hello{.node = "n"});
        CHECK(channel->receive() == Message(Welcome{.job = "seed = 1"}));
        CHECK(channel->receive() == Message(Stop{.reason = "enough"}));
        CHECK_FALSE(channel->receive());
        channel.reset();
        CHECK_FALSE(hub.next_event(Clock::now()));
    }

    TEST_CASE("close delivers what is queued, then every channel knows that the aggregator is gone") {
        LoopbackHub hub;
        const auto channel = hub.connect();
        const PeerId peer = await_join(hub);
        hub.send(peer, Stop{.reason = "done"});
        hub.close();
        hub.close();
        CHECK(hub.send(peer, Stop{}) == 0);
        CHECK(channel->receive() == Message(Stop{.reason = "done"}));
        CHECK_FALSE(channel->receive());
        CHECK_NOTHROW(channel->send(Stop{}));
        CHECK_FALSE(hub.next_event(Clock::now()));
    }

    TEST_CASE("a channel may outlive its hub") {
        std::unique_ptr<Channel> channel;
        {
            LoopbackHub hub;
            channel = hub.connect();
            hub.send(await_join(hub), Stop{});
        }
        CHECK(channel->receive() == Message(Stop{}));
        CHECK_FALSE(channel->receive());
        channel->send(Stop{});
    }

    TEST_CASE("peers on their own threads are all answered, and none is lost before it leaves") {
        constexpr int kPeers = 8;
        constexpr std::uint32_t kRounds = 200;
        LoopbackHub hub;
        std::vector<std::jthread> nodes;
        for (int i = 0; i < kPeers; ++i)
            nodes.emplace_back([channel = hub.connect()]() mutable {
                for (std::uint32_t round = 1; round <= kRounds; ++round) {
                    channel->send(Failed{.round = round, .reason = "echo"});
                    const auto answer = channel->receive();
                    if (!answer || std::get<RoundCommitted>(*answer).round != round)
                        return;  // leaves early: the hub counts fewer rounds
                }
                channel.reset();
            });
        std::map<PeerId, std::uint32_t> rounds;
        for (int left = 0; left < kPeers;) {
            const HubEvent event = await(hub);
            if (const auto* received = std::get_if<Received>(&event)) {
                const std::uint32_t round = std::get<Failed>(received->message).round;
                CHECK(round == ++rounds[received->peer]);
                hub.send(received->peer, RoundCommitted{.round = round});
            } else if (std::holds_alternative<PeerLost>(event)) {
                ++left;
            }
        }
        CHECK(rounds.size() == kPeers);
        for (const auto& [peer, count] : rounds)
            CHECK(count == kRounds);
    }
}
