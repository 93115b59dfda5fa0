#include "transport/tcp.hpp"

#include "core/error.hpp"
#include "tests/unit/temporary_folder.hpp"
#include "tests/unit/transport/tcp_ends.hpp"

#include <sys/resource.h>

#include <atomic>
#include <map>

namespace {

using namespace dither;
using namespace dither::test;

Update update_of(std::size_t payload_bytes) {
    Update update;
    update.payload.resize(payload_bytes, std::byte{7});
    return update;
}

}  // namespace

TEST_SUITE("transport/tcp") {
    TEST_CASE("both ends hear what the other says, in order, and the hub counts whole frames") {
        Log log;
        TcpHub hub(on_loopback(log));
        const auto channel = connect_tcp(to(hub));
        const Message hello = Hello{.node = "n"};
        channel->send(hello);
        channel->send(Failed{.reason = "second"});
        const auto joined = await_one<PeerJoined>(hub);
        CHECK(joined.identity.empty());
        const auto first = await_one<Received>(hub);
        CHECK(first.peer == joined.peer);
        CHECK(first.message == hello);
        CHECK(first.wire_bytes == encode_frame(hello).size());
        CHECK(await_one<Received>(hub).message == Message(Failed{.reason = "second"}));

        const Message welcome = Welcome{.job = "seed = 1"};
        CHECK(hub.send(joined.peer, welcome) == encode_frame(welcome).size());
        hub.send(joined.peer, Stop{.reason = "done"});
        CHECK(channel->receive() == welcome);
        CHECK(channel->receive() == Message(Stop{.reason = "done"}));
        CHECK(hub.peers_return());
        CHECK(log.lines().empty());
    }

    TEST_CASE("nothing is returned at the deadline, or after 100 ms without an event") {
        Log log;
        TcpHub hub(on_loopback(log));
        CHECK_FALSE(hub.next_event(Clock::now() - 1s));
        CHECK_FALSE(hub.next_event(Clock::now() + 1ms));
        CHECK_FALSE(hub.next_event(Clock::now() + 24h));
    }

    TEST_CASE("a channel that is destroyed is a lost peer, after all that it said") {
        Log log;
        TcpHub hub(on_loopback(log));
        auto channel = connect_tcp(to(hub));
        channel->send(Hello{.node = "n"});
        const PeerId peer = await_hello(hub);
        hub.admit(peer, FrameLimits::for_model(4'000'000, 1));
        channel->send(update_of(2'000'000));
        channel.reset();
        CHECK(await_one<Received>(hub).message == Message(update_of(2'000'000)));
        CHECK(await_one<PeerLost>(hub).peer == peer);
        CHECK(hub.send(peer, Stop{}) == 0);
        CHECK_FALSE(hub.next_event(Clock::now()));
        CHECK(log.lines().empty());
    }

    TEST_CASE("a model crosses in both directions, whatever the size of the pieces it comes in") {
        Log log;
        TcpHub hub(on_loopback(log));
        const auto channel = connect_tcp(to(hub));
        channel->send(Hello{.node = "n"});
        const PeerId peer = await_hello(hub);
        hub.admit(peer, FrameLimits::for_model(2'000'000, 1));
        RoundPlan plan{.round = 1};
        plan.parts.push_back({.round = 1, .steps = {}, .payload = std::vector<std::byte>(4'000'000, std::byte{3})});
        hub.send(peer, plan);
        channel->send(update_of(4'000'000));
        CHECK(channel->receive() == Message(plan));
        CHECK(await_one<Received>(hub).message == Message(update_of(4'000'000)));
        const HubStatistics statistics = hub.statistics();
        CHECK(statistics.accepted == 1);
        CHECK(statistics.connections == 1);
        CHECK(statistics.refused == 0);
        CHECK(statistics.bytes_in >= encode_frame(update_of(4'000'000)).size());
        CHECK(statistics.bytes_out >= encode_frame(plan).size());
    }

    TEST_CASE("a dropped peer hears why, and nothing of it is heard again") {
        Log log;
        TcpHub hub(on_loopback(log));
        const auto channel = connect_tcp(to(hub));
        channel->send(Hello{.node = "n"});
        const PeerId peer = await_hello(hub);
        hub.admit(peer, FrameLimits::for_model(4'000'000, 1));
        channel->send(Failed{});
        hub.send(peer, Welcome{.job = "seed = 1"});
        hub.drop(peer, "enough");
        hub.drop(peer, "once more");
        CHECK(hub.send(peer, Stop{}) == 0);
        channel->send(update_of(2'000'000));  // on its way while the hub says goodbye
        CHECK(channel->receive() == Message(Welcome{.job = "seed = 1"}));
        CHECK(channel->receive() == Message(Stop{.reason = "enough"}));
        CHECK_FALSE(channel->receive());
        CHECK_NOTHROW(channel->send(Stop{}));
        CHECK_FALSE(hub.next_event(Clock::now() + 1s));
    }

    TEST_CASE("close delivers what is queued, then every channel knows that the aggregator is gone") {
        Log log;
        TcpHub hub(on_loopback(log));
        const auto channel = connect_tcp(to(hub));
        channel->send(Hello{.node = "n"});
        const PeerId peer = await_hello(hub);
        RoundPlan plan{.round = 1};
        plan.parts.push_back({.round = 1, .steps = {}, .payload = std::vector<std::byte>(2'000'000)});
        hub.send(peer, plan);
        hub.send(peer, Stop{.reason = "done"});
        hub.close();
        hub.close();
        CHECK(hub.send(peer, Stop{}) == 0);
        CHECK(channel->receive() == Message(plan));
        CHECK(channel->receive() == Message(Stop{.reason = "done"}));
        CHECK_FALSE(channel->receive());
        CHECK_FALSE(hub.next_event(Clock::now()));
        CHECK_THROWS_AS(connect_tcp(to(hub)), IoError);
    }

    TEST_CASE("stop ends a channel's waiting from another thread") {
        Log log;
        TcpHub hub(on_loopback(log));
        const auto channel = connect_tcp(to(hub));
        channel->send(Hello{.node = "n"});
        const std::jthread stopper([&] { channel->stop(); });
        CHECK_FALSE(channel->receive());
    }

    TEST_CASE("heartbeats keep two silent ends together, and nobody above hears of them") {
        Log log;
        TcpHubOptions options = on_loopback(log);
        options.limits.heartbeat = 20ms;
        options.limits.dead = 2s;
        TcpHub hub(options);
        TcpChannelOptions node = to(hub);
        node.limits = options.limits;
        const auto channel = connect_tcp(node);
        channel->send(Hello{.node = "n"});
        const PeerId peer = await_hello(hub);
        const std::uint64_t before = hub.statistics().bytes_in;
        CHECK(eventually([&] { return hub.statistics().bytes_in >= before + 30 * kFrameHeaderBytes; }));
        CHECK_FALSE(hub.next_event(Clock::now()));
        hub.send(peer, Stop{.reason = "done"});
        CHECK(channel->receive() == Message(Stop{.reason = "done"}));
    }

    TEST_CASE("a peer that falls silent is lost") {
        Log log;
        TcpHubOptions options = on_loopback(log);
        options.limits.dead = 300ms;
        TcpHub hub(options);
        const RawClient silent(hub);
        silent.say(Hello{.node = "n"});
        const PeerId peer = await_hello(hub);
        const auto lost = await_one<PeerLost>(hub);
        CHECK(lost.peer == peer);
        CHECK(lost.reason.find("silent") != std::string::npos);
        CHECK(silent.closed());
    }

    TEST_CASE("a channel notices an aggregator that falls silent") {
        Log log;
        TcpHubOptions options = on_loopback(log);
        options.limits.heartbeat = 1h;
        TcpHub hub(options);
        TcpChannelOptions node = to(hub);
        node.limits.dead = 300ms;
        const auto channel = connect_tcp(node);
        channel->send(Hello{.node = "n"});
        CHECK_THROWS_AS(channel->receive(), IoError);
    }

    TEST_CASE("plaintext is for loopback addresses only, at both ends") {
        TcpHubOptions hub;
        hub.listen = {"0.0.0.0", 0};
        CHECK_THROWS_AS(TcpHub{hub}, InputError);
        TcpChannelOptions node;
        node.aggregator = {"192.0.2.1", 7};
        CHECK_THROWS_AS(connect_tcp(node), InputError);
    }

    TEST_CASE("an aggregator that is not there, or a port that is taken, is an IoError") {
        Log log;
        TcpHub hub(on_loopback(log));
        TcpHubOptions second = on_loopback(log);
        second.listen = hub.endpoint();
        CHECK_THROWS_AS(TcpHub{second}, IoError);
        const TcpChannelOptions node = to(hub);
        hub.close();
        CHECK_THROWS_AS(connect_tcp(node), IoError);
    }

    TEST_CASE("a peer that does not read is lost once too much waits for it, and the others go on") {
        Log log;
        TcpHubOptions options = on_loopback(log);
        options.limits.queue_bytes = 1'000'000;
        TcpHub hub(options);
        HealthyNode healthy(hub, to(hub), "healthy");
        const RawClient deaf(hub, 4096);
        deaf.say(Hello{.node = "deaf"});
        const PeerId peer = await_hello(hub);
        const Message welcome = Welcome{.job = std::string(500'000, ' ')};
        std::size_t sent = 0;
        while (hub.send(peer, welcome) > 0 && ++sent < 10'000)
            std::this_thread::sleep_for(1ms);
        const auto lost = await_one<PeerLost>(hub);
        CHECK(lost.peer == peer);
        CHECK(lost.reason.find("does not read") != std::string::npos);
        CHECK(log.has("does not read"));
        healthy.converse();
    }

    TEST_CASE("a peer that takes nothing of what waits for it is lost although it says something now and then") {
        Log log;
        TcpHubOptions options = on_loopback(log);
        options.limits.dead = 2s;
        TcpHub hub(options);
        const RawClient deaf(hub, 4096);
        deaf.say(Hello{.node = "deaf"});
        const PeerId peer = await_hello(hub);
        std::atomic<bool> over = false;
        const std::jthread alive([&] {
            while (!over && deaf.say(Heartbeat{}))
                std::this_thread::sleep_for(5ms);
        });
        for (int i = 0; i < 12; ++i)
            hub.send(peer, Welcome{.job = std::string(1'000'000, ' ')});
        const std::string reason = await_one<PeerLost>(hub).reason;
        over = true;
        CHECK(reason == "it has not read for 2 s");
    }

    TEST_CASE("a model that many peers fetch takes the hub's memory once, whatever their plans say besides") {
        constexpr std::size_t kBytes = 4'000'000;
        Log log;
        TcpHub hub(on_loopback(log));
        RoundPlan plan{.round = 2, .base = 1, .parts = {{.round = 2, .payload = std::vector<std::byte>(kBytes)}}};
        std::vector<std::unique_ptr<RawClient>> clients;
        std::vector<PeerId> peers;
        for (int i = 0; i < 40; ++i) {
            clients.push_back(std::make_unique<RawClient>(hub, 4096));
            clients.back()->say(Hello{.node = "n"});
            peers.push_back(await_hello(hub));
        }
        const std::size_t before = resident_kib();
        std::size_t frame = 0;
        for (const PeerId peer : peers) {
            plan.client = peer;
            frame = hub.send(peer, plan);
        }
        CHECK(resident_kib() < before + 5 * kBytes / 1024);  // while it waits for nearly all of them
        for (std::size_t i = 0; i < peers.size(); ++i) {
            plan.client = peers[i];
            CHECK(decode_frame(clients[i]->hear(frame), FrameLimits::for_node()) == Message(plan));
        }
    }

    TEST_CASE("what still waits for a peer that was dropped is shed, too, and nobody else notices") {
        Log log;
        TcpHubOptions options = on_loopback(log);
        options.queued_bytes = 1'000'000;
        TcpHub hub(options);
        HealthyNode healthy(hub, to(hub), "healthy");
        const RawClient deaf(hub, 4096);
        deaf.say(Hello{.node = "deaf"});
        const PeerId peer = await_hello(hub);
        for (std::uint32_t i = 0; i < 5; ++i)
            hub.send(peer,
                     RoundPlan{.round = 1, .parts = {{.round = 1, .payload = std::vector<std::byte>(3'000'000)}}});
        hub.drop(peer, "x");
        CHECK_FALSE(hub.next_event(Clock::now() + 1500ms));
        healthy.converse();
    }

    TEST_CASE(
        "what waits for all peers is bounded: beyond, who takes most of it is lost, and shared bytes count once") {
        constexpr std::size_t kBytes = 3'000'000;
        Log log;
        TcpHubOptions options = on_loopback(log);
        options.queued_bytes = 2 * kBytes;
        options.limits.linger = 1s;
        TcpHub hub(options);
        HealthyNode healthy(hub, to(hub), "healthy");
        std::vector<std::unique_ptr<RawClient>> deaf;
        std::vector<PeerId> peers;
        for (int i = 0; i < 8; ++i) {
            deaf.push_back(std::make_unique<RawClient>(hub, 4096));
            deaf.back()->say(Hello{.node = "deaf"});
            peers.push_back(await_hello(hub));
        }
        const auto send = [&](PeerId peer, SharedBytes payload) {
            hub.send(peer, RoundPlan{.round = 1, .parts = {{.round = 1, .payload = std::move(payload)}}});
        };
        const auto zeros = [] { return SharedBytes(std::vector<std::byte>(kBytes)); };
        const SharedBytes broadcast = zeros();
        for (std::size_t i = 0; i < 6; ++i)
            send(peers[i], broadcast);
        CHECK_FALSE(hub.next_event(Clock::now() + 1s));
        healthy.converse();
        for (int i = 0; i < 6; ++i)  // the last two peers: nine payloads, of which four may wait
            send(peers[static_cast<std::size_t>(6 + i % 2)], zeros());
        const auto lost = await_one<PeerLost>(hub);
        CHECK(lost.peer >= peers[6]);
        CHECK(lost.reason.find("more than for any other") != std::string::npos);
        healthy.converse();
    }

    TEST_CASE("reload ends peers in plaintext whose names are not allowed any more, and tells them why") {
        Log log;
        const TemporaryFolder folder;
        TcpHubOptions options = on_loopback(log);
        options.allowed = folder.path() / "allowed";
        write_text(options.allowed, "healthy\nunwanted\n");
        TcpHub hub(options);
        HealthyNode healthy(hub, to(hub), "healthy");
        const auto unwanted = connect_tcp(to(hub));
        unwanted->send(Hello{.node = "unwanted"});
        const PeerId peer = await_hello(hub);
        write_text(options.allowed, "healthy\n");
        hub.reload();
        const auto lost = await_one<PeerLost>(hub);
        CHECK(lost.peer == peer);
        CHECK(lost.reason == "node unwanted is not allowed here");
        CHECK(unwanted->receive() == Message(Stop{"node unwanted is not allowed here"}));
        CHECK(log.has("(unwanted) refused: node unwanted is not allowed here"));
        CHECK(log.has("read again: 1 connections ended"));
        CHECK(hub.statistics().peers == 1);
        healthy.converse();
    }

    TEST_CASE("strangers are connections, and no peers") {
        Log log;
        TcpHub hub(on_loopback(log));
        const RawClient stranger(hub);
        HealthyNode node(hub, to(hub), "node");
        CHECK(eventually([&] { return hub.statistics().connections == 2; }));
        CHECK(hub.statistics().peers == 1);
    }

    TEST_CASE("a channel tells of every byte that its socket takes") {
        Log log;
        TcpHub hub(on_loopback(log));
        std::atomic<std::uint64_t> written = 0;
        TcpChannelOptions options = to(hub);
        options.written = [&](std::uint64_t bytes) { written += bytes; };
        auto channel = connect_tcp(options);
        channel->send(Hello{.node = "n"});
        channel->send(update_of(1000));
        await_hello(hub);
        await_one<Received>(hub);
        channel.reset();
        CHECK(written == encode_frame(Hello{.node = "n"}).size() + encode_frame(update_of(1000)).size());
    }

    TEST_CASE("a node without files for a connection has an IoError, and connects when there are some") {
        Log log;
        TcpHub hub(on_loopback(log));
        rlimit before{};
        ::getrlimit(RLIMIT_NOFILE, &before);
        rlimit none = before;
        for (none.rlim_cur = 0; none.rlim_cur < 64; none.rlim_cur += 1) {
            ::setrlimit(RLIMIT_NOFILE, &none);
            try {
                connect_tcp(to(hub));
            } catch (const IoError&) {
                continue;
            }
            break;
        }
        ::setrlimit(RLIMIT_NOFILE, &before);
        CHECK(none.rlim_cur > 3);
        HealthyNode node(hub, to(hub), "node");
    }

    TEST_CASE("what is received and not taken is bounded, and nothing of it is lost") {
        constexpr std::size_t kNodes = 8;
        constexpr std::size_t kUpdates = 10;
        constexpr std::size_t kBytes = 1'000'000;
        Log log;
        TcpHubOptions options = on_loopback(log);
        options.in_flight_bytes = 2 * kBytes;
        TcpHub hub(options);
        std::vector<std::unique_ptr<TcpChannel>> channels;
        for (std::size_t i = 0; i < kNodes; ++i) {
            channels.push_back(connect_tcp(to(hub)));
            channels.back()->send(Hello{.node = "n"});
            hub.admit(await_hello(hub), FrameLimits::for_model(kBytes, 1));
        }
        for (std::size_t i = 0; i < kUpdates; ++i)
            for (const auto& channel : channels)
                channel->send(update_of(kBytes));
        // Buffers of the kernel hold some of it; the hub itself takes the budget, a frame beyond it, and what of one
        // turn it had read already.
        std::uint64_t in = 0;
        while (std::exchange(in, hub.statistics().bytes_in) != hub.statistics().bytes_in || in == 0)
            std::this_thread::sleep_for(200ms);
        CHECK(in <= 4 * kBytes);
        std::map<PeerId, std::size_t> updates;
        for (std::size_t i = 0; i < kNodes * kUpdates; ++i)
            ++updates[await_one<Received>(hub).peer];
        CHECK(updates.size() == kNodes);
        for (const auto& [peer, count] : updates)
            CHECK(count == kUpdates);
    }

    TEST_CASE("frames beyond the whole budget arrive, one after the other") {
        constexpr std::size_t kBytes = 1'000'000;
        Log log;
        TcpHubOptions options = on_loopback(log);
        options.in_flight_bytes = 100'000;
        TcpHub hub(options);
        std::vector<std::unique_ptr<TcpChannel>> channels;
        for (int i = 0; i < 4; ++i) {
            channels.push_back(connect_tcp(to(hub)));
            channels.back()->send(Hello{.node = "n"});
            hub.admit(await_hello(hub), FrameLimits::for_model(kBytes, 1));
        }
        for (const auto& channel : channels)
            channel->send(update_of(kBytes));
        for (std::size_t i = 0; i < channels.size(); ++i)
            CHECK(await_one<Received>(hub).message == Message(update_of(kBytes)));
    }

    TEST_CASE("before it is admitted a peer cannot fill the queue with small frames") {
        Log log;
        TcpHub hub(on_loopback(log));
        const RawClient talkative(hub);
        talkative.say(Hello{.node = "n"});
        const PeerId peer = await_hello(hub);
        const auto frame = encode_frame(Failed{.reason = std::string(1000, 'x')});
        const std::jthread talking([&] {
            for (int i = 0; i < 5000 && talkative.say(frame); ++i) {
            }
        });
        std::uint64_t in = 0;
        while (std::exchange(in, hub.statistics().bytes_in) != hub.statistics().bytes_in || in == 0)
            std::this_thread::sleep_for(200ms);
        CHECK(in <= 256 * 1024);
        hub.admit(peer, FrameLimits::for_model(1000, 1));
        for (int i = 0; i < 5000; ++i)
            await_one<Received>(hub);
    }

    TEST_CASE("messages wait on their way to a node that does not take them, and arrive") {
        Log log;
        TcpHub hub(on_loopback(log));
        const auto channel = connect_tcp(to(hub));
        channel->send(Hello{.node = "n"});
        const PeerId peer = await_hello(hub);
        const Message welcome = Welcome{.job = std::string(1'000'000, ' ')};
        constexpr std::size_t kMessages = 60;
        std::size_t sent = 0;
        for (std::size_t i = 0; i < kMessages; ++i)
            sent += hub.send(peer, welcome);
        std::uint64_t out = 0;
        while (std::exchange(out, hub.statistics().bytes_out) != hub.statistics().bytes_out || out == 0)
            std::this_thread::sleep_for(200ms);
        CHECK(out < sent);
        for (std::size_t i = 0; i < kMessages; ++i)
            CHECK(channel->receive() == welcome);
    }

    TEST_CASE("peers on their own threads are all answered, and none is lost before it leaves") {
        constexpr int kPeers = 8;
        constexpr std::uint32_t kRounds = 200;
        Log log;
        TcpHub hub(on_loopback(log));
        std::vector<std::jthread> nodes;
        for (int i = 0; i < kPeers; ++i)
            nodes.emplace_back([&] {
                const auto channel = connect_tcp(to(hub));
                channel->send(Hello{.node = "n"});
                for (std::uint32_t round = 1; round <= kRounds; ++round) {
                    channel->send(Failed{.round = round, .reason = "echo"});
                    const auto answer = channel->receive();
                    if (!answer || std::get<RoundCommitted>(*answer).round != round)
                        return;  // leaves early: the hub counts fewer rounds
                }
            });
        std::map<PeerId, std::uint32_t> rounds;
        for (int left = 0; left < kPeers;) {
            const HubEvent event = await(hub);
            if (const auto* received = std::get_if<Received>(&event)) {
                if (!std::holds_alternative<Failed>(received->message))
                    continue;
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
        CHECK(log.lines().empty());
    }
}
