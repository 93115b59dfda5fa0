// What a hostile network may try. Everything is refused, logged once, and harms nobody else.
#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "tests/unit/transport/tcp_ends.hpp"

#include <sys/resource.h>

#include <random>

namespace {

using namespace dither;
using namespace dither::test;

/// A hub with a healthy node, which must still be well in the end.
struct Besieged {
    explicit Besieged(const ConnectionLimits& limits = {}) : hub(with(limits)) {}

    /// The next to last thing of each case: refused and logged once, for this reason.
    void refused(const std::string& reason) {
        CHECK(log.has(reason));
        CHECK(log.lines().size() == ++refusals);
        CHECK(hub.statistics().refused == refusals);
        CHECK_FALSE(hub.next_event(Clock::now()));
        healthy.converse();
    }

    Log log;
    TcpHub hub;
    HealthyNode healthy{hub, to(hub), "healthy"};
    std::size_t refusals = 0;

private:
    TcpHubOptions with(const ConnectionLimits& limits) {
        TcpHubOptions options = on_loopback(log);
        options.limits = limits;
        return options;
    }
};

std::vector<std::byte> with_length(std::uint64_t length) {
    auto frame = encode_frame(Hello{.node = "n"});
    store_little(length, frame.data() + 8);
    // The header's own checksum, so that the length is what is refused: CRC32C bit by bit.
    std::uint32_t crc = 0xffffffff;
    for (std::size_t i = 0; i < 20; ++i) {
        crc ^= static_cast<std::uint32_t>(frame[i]);
        for (int bit = 0; bit < 8; ++bit)
            crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0x82f63b78U : 0U);
    }
    store_little(~crc, frame.data() + 20);
    return frame;
}

}  // namespace

TEST_SUITE("transport/tcp hostile") {
    TEST_CASE("random bytes are refused") {
        Besieged besieged;
        const RawClient client(besieged.hub);
        client.say(std::string(200, 'x'));
        CHECK(client.closed());
        besieged.refused("a frame begins with \"DTHR\"");
    }

    TEST_CASE("a hundred strangers with random bytes change nothing") {
        Besieged besieged;
        std::mt19937 random(1);
        for (int i = 0; i < 100; ++i) {
            const RawClient client(besieged.hub);
            std::string bytes(1 + random() % 3000, '\0');
            for (char& byte : bytes)
                byte = static_cast<char>(random());
            client.say(bytes);
            client.leave();
            CHECK(client.closed());
        }
        CHECK(eventually([&] { return besieged.hub.statistics().refused == 100; }));
        CHECK(besieged.log.lines().size() == 100);
        besieged.healthy.converse();
        CHECK(eventually([&] { return besieged.hub.statistics().connections == 1; }));
    }

    TEST_CASE("a frame of another protocol version is refused, with both numbers") {
        Besieged besieged;
        auto frame = encode_frame(Hello{.node = "n"});
        frame[4] = std::byte{77};
        const RawClient client(besieged.hub);
        client.say(frame);
        CHECK(client.closed());
        besieged.refused(fmt::format("protocol version {} is spoken here, not 77", kProtocolVersion));
    }

    TEST_CASE("a huge length is refused by the header alone") {
        Besieged besieged;
        for (const std::uint64_t length : {std::uint64_t{65537}, std::uint64_t{1} << 62}) {
            const RawClient client(besieged.hub);
            const auto frame = with_length(length);
            client.say(std::span(frame).first(kFrameHeaderBytes));
            CHECK(client.closed());
            besieged.refused(fmt::format("a body of {} bytes exceeds the limit", length));
        }
    }

    TEST_CASE("memory follows what arrives, not what a header promises") {
        Besieged besieged;
        std::vector<std::unique_ptr<RawClient>> clients;
        const auto update = encode_frame(Update{.payload = std::vector<std::byte>(20'000'000)});
        for (int i = 0; i < 20; ++i) {
            clients.push_back(std::make_unique<RawClient>(besieged.hub));
            clients.back()->say(Hello{.node = "n"});
            besieged.hub.admit(await_hello(besieged.hub), FrameLimits::for_model(20'000'000, 1));
        }
        const std::size_t before = resident_kib();
        for (const auto& client : clients)
            client->say(std::span(update).first(1000));
        besieged.healthy.converse();
        CHECK(resident_kib() < before + 20'000);
    }

    TEST_CASE("a truncated frame is refused when its sender leaves") {
        Besieged besieged;
        const auto frame = encode_frame(Hello{.node = "n"});
        for (const std::size_t size : {std::size_t{1}, kFrameHeaderBytes - 1, kFrameHeaderBytes, frame.size() - 1}) {
            const RawClient client(besieged.hub);
            client.say(std::span(frame).first(size));
            client.leave();
            CHECK(client.closed());
            CHECK(eventually([&] { return besieged.log.lines().size() > besieged.refusals; }));
            CHECK(besieged.log.lines().back().find("in the middle of a frame") != std::string::npos);
            CHECK(besieged.log.lines().size() == ++besieged.refusals);
            besieged.healthy.converse();
        }
    }

    TEST_CASE("a wrong checksum and a wrong field are refused, with their names") {
        Besieged besieged;
        auto frame = encode_frame(Hello{.node = "n"});
        frame.back() ^= std::byte{1};
        const RawClient client(besieged.hub);
        client.say(frame);
        CHECK(client.closed());
        besieged.refused("the body's checksum is wrong");
    }

    TEST_CASE("who leaves without a word is logged once") {
        Besieged besieged;
        const RawClient client(besieged.hub);
        client.leave();
        CHECK(client.closed());
        besieged.refused("it left without a hello");
    }

    TEST_CASE("who says nothing is refused in time") {
        Besieged besieged(impatient());
        const RawClient client(besieged.hub);
        CHECK(client.closed());
        besieged.refused("a hello did not come within 1.5 s");
    }

    TEST_CASE("who sends a hello byte by byte is refused in time") {
        Besieged besieged(impatient());
        const RawClient client(besieged.hub);
        const auto frame = encode_frame(Hello{.node = "n"});
        for (std::size_t at = 0; at < frame.size() && client.say(std::span(frame).subspan(at, 1)); ++at)
            std::this_thread::sleep_for(100ms);
        CHECK(client.closed());
        besieged.refused("a frame's header took more than 0.2 s");
    }

    TEST_CASE("who sends a later header or body too slowly is refused in time") {
        ConnectionLimits limits = impatient();
        limits.handshake = 5s;
        limits.body_rate = 1'000'000;
        Besieged besieged(limits);
        const auto frame = encode_frame(Failed{.reason = std::string(1000, 'x')});
        for (const std::size_t begun : {std::size_t{10}, std::size_t{100}}) {
            const RawClient client(besieged.hub);
            client.say(Hello{.node = "n"});
            const PeerId peer = await_hello(besieged.hub);
            client.say(std::span(frame).first(begun));
            CHECK(await_one<PeerLost>(besieged.hub).peer == peer);
            CHECK(client.closed());
            besieged.refused(begun < kFrameHeaderBytes ? "a frame's header took more" : "bytes of a body in");
        }
    }

    TEST_CASE("who does not begin with a hello is refused, and what it said is not heard") {
        Besieged besieged;
        const RawClient client(besieged.hub);
        client.say(Failed{.round = 1});
        CHECK(client.closed());
        besieged.refused("a node says Hello first, not Failed");
    }

    TEST_CASE("a peer that has said hello and then breaks a rule is lost once and logged once") {
        Besieged besieged;
        const RawClient client(besieged.hub);
        client.say(Hello{.node = "n"});
        const PeerId peer = await_hello(besieged.hub);
        client.say(std::string(100, 'x'));
        client.say(Failed{});
        const auto lost = await_one<PeerLost>(besieged.hub);
        CHECK(lost.peer == peer);
        CHECK(lost.reason == "a frame begins with \"DTHR\"");
        CHECK(besieged.hub.send(peer, Stop{}) == 0);
        CHECK(client.closed());
        besieged.refused("a frame begins with \"DTHR\"");
    }

    TEST_CASE("an unadmitted peer's frames are bounded by 64 KiB, an admitted one's by its model") {
        Besieged besieged;
        const Message update = Update{.payload = std::vector<std::byte>(100'000)};
        const RawClient stranger(besieged.hub);
        stranger.say(Hello{.node = "n"});
        const PeerId unknown = await_hello(besieged.hub);
        const RawClient known(besieged.hub);
        known.say(Hello{.node = "m"});
        const PeerId admitted = await_hello(besieged.hub);
        besieged.hub.admit(admitted, FrameLimits::for_model(100'000, 1));
        known.say(update);
        CHECK(await_one<Received>(besieged.hub).message == update);
        stranger.say(update);
        CHECK(await_one<PeerLost>(besieged.hub).peer == unknown);
        besieged.refused("exceeds the limit");
    }

    TEST_CASE("a peer that never stops talking is heard in turn with the others") {
        Log log;
        TcpHub hub(on_loopback(log));
        const auto join = [&](const RawClient& client) {
            client.say(Hello{.node = "n"});
            const PeerId peer = await_hello(hub);
            hub.admit(peer, FrameLimits::for_model(1000, 1));
            return peer;
        };
        const RawClient talkative(hub), quiet(hub);
        join(talkative);
        const PeerId peer = join(quiet);
        const std::jthread talking([&] {
            const auto frame = encode_frame(Failed{.reason = "again"});
            for (int i = 0; i < 20'000 && talkative.say(frame); ++i) {
            }
        });
        std::uint64_t in = 0;
        while (std::exchange(in, hub.statistics().bytes_in) != hub.statistics().bytes_in || in == 0)
            std::this_thread::sleep_for(200ms);
        quiet.say(Failed{.reason = "once"});
        // One turn's bytes of the other one may have been there already.
        const std::size_t a_turn = (std::size_t{256} << 10) / encode_frame(Failed{.reason = "again"}).size();
        std::size_t before = 0;
        while (await_one<Received>(hub).peer != peer)
            ++before;
        CHECK(before <= 2 * a_turn);
        hub.close();
    }

    TEST_CASE("a frame that all others wait for must come at some speed, or they are heard instead") {
        Log log;
        TcpHubOptions options = on_loopback(log);
        options.in_flight_bytes = 100'000;
        options.limits.header = 500ms;
        TcpHub hub(options);
        const auto frame = encode_frame(Update{.payload = std::vector<std::byte>(1'000'000)});
        const RawClient slow(hub), patient(hub);
        for (const RawClient* client : {&slow, &patient}) {
            client->say(Hello{.node = "n"});
            hub.admit(await_hello(hub), FrameLimits::for_model(1'000'000, 1));
        }
        const std::uint64_t before = hub.statistics().bytes_in;
        slow.say(std::span(frame).first(400'000));
        CHECK(eventually([&] { return hub.statistics().bytes_in - before >= 400'000; }));
        const std::jthread saying([&] { patient.say(frame); });
        CHECK(await_one<PeerLost>(hub).reason.find("others wait for its frame") == 0);
        CHECK(std::holds_alternative<Update>(await_one<Received>(hub).message));
        CHECK(log.has("others wait for its frame"));
    }

    TEST_CASE("connections beyond the limit are refused, and there is room again when one leaves") {
        Log log;
        TcpHubOptions options = on_loopback(log);
        options.connections = 3;
        TcpHub hub(options);
        HealthyNode first(hub, to(hub), "first");
        HealthyNode second(hub, to(hub), "second");
        {
            HealthyNode third(hub, to(hub), "third");
            const RawClient client(hub);
            CHECK(client.closed());
            CHECK(log.has("too many connections"));
        }
        await_one<PeerLost>(hub);
        CHECK(eventually([&] { return hub.statistics().connections == 2; }));
        HealthyNode third(hub, to(hub), "third");
        first.converse();
        third.converse();
    }

    TEST_CASE("nodes get in although strangers have taken all places: they wait for one") {
        Log log;
        TcpHubOptions options = on_loopback(log);
        options.strangers = 2;
        options.limits = impatient();
        options.limits.linger = 100ms;
        TcpHub hub(options);
        std::vector<std::unique_ptr<RawClient>> silent;
        for (int i = 0; i < 4; ++i)
            silent.push_back(std::make_unique<RawClient>(hub));
        HealthyNode node(hub, to(hub), "node");
        node.converse();
    }

    TEST_CASE("a hub that runs out of files goes on when there are some again") {
        Log log;
        TcpHub hub(on_loopback(log));
        HealthyNode node(hub, to(hub), "node");
        rlimit before{};
        ::getrlimit(RLIMIT_NOFILE, &before);
        // One file for the next client's own end, none for the hub's.
        const int free = ::dup(0);
        ::close(free);
        rlimit few = before;
        few.rlim_cur = static_cast<rlim_t>(free) + 1;
        ::setrlimit(RLIMIT_NOFILE, &few);
        RawClient late(hub);
        CHECK(log.has("cannot accept connections"));
        node.converse();
        ::setrlimit(RLIMIT_NOFILE, &before);
        late.say(Hello{.node = "late"});
        await_hello(hub);
        node.converse();
        CHECK(log.count("cannot accept connections") == 1);
    }

    TEST_CASE("a flood of refusals does not flood the log") {
        Log log;
        TcpHub hub(on_loopback(log));
        for (int i = 0; i < 300; ++i) {
            const RawClient client(hub);
            client.say(std::string(24, 'x'));
            CHECK(client.closed());
        }
        CHECK(eventually([&] { return hub.statistics().refused == 300; }));
        CHECK(log.lines().size() <= 120);
    }
}
