// What happens where there is no memory left, for a moment or for long: allocations of one thread fail on command.
#include "core/error.hpp"
#include "tests/unit/transport/tcp_ends.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<bool> is_scarce = false;  ///< else no allocation fails
thread_local int until_scarce = -1;   ///< allocations of this thread that still succeed; negative: all do
thread_local int failures = 0;        ///< of this thread that are still to come

bool fails() {
    if (!is_scarce || until_scarce < 0)
        return false;
    if (until_scarce > 0) {
        --until_scarce;
        return false;
    }
    return failures > 0 && failures-- > 0;
}

void become_scarce(int after, int times) {
    until_scarce = after;
    failures = times;
    is_scarce = true;
}

}  // namespace

// GCC takes the pair for a mismatch where it inlines one of them.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
void* operator new(std::size_t size) {
    if (void* const memory = fails() ? nullptr : std::malloc(size))
        return memory;
    throw std::bad_alloc();
}

void operator delete(void* memory) noexcept {
    std::free(memory);
}

void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
#pragma GCC diagnostic pop

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern "C" {
void* __libc_memalign(std::size_t alignment, std::size_t size);

/// Asio's way. Sanitizers stand in for it themselves.
void* aligned_alloc(std::size_t alignment, std::size_t size) {
    return fails() ? nullptr : __libc_memalign(alignment, size);
}
}
#endif

namespace {

using namespace dither;
using namespace dither::test;

void become_plentiful() {
    is_scarce = false;
    until_scarce = -1;
}

/// No allocation fails beyond this.
struct Plenty {
    ~Plenty() { become_plentiful(); }
};

/// Ticks every 25 ms.
TcpHubOptions ticking(Log& log) {
    TcpHubOptions options = on_loopback(log);
    options.limits = impatient();
    return options;
}

}  // namespace

TEST_SUITE("transport/tcp memory") {
    TEST_CASE("wherever its thread lacks memory, for one allocation or for long, a hub loses no more than it must") {
        const Plenty plenty;
        for (int i = 0; i < 80; ++i) {
            CAPTURE(i);
            Log log;
            TcpHubOptions options = ticking(log);
            options.log = [&, sink = log.sink()](const std::string& line) {
                sink(line);
                if (line.find("begins with") != std::string::npos)
                    become_scarce(i / 2, i % 2 == 0 ? 1 : 1'000'000);
            };
            TcpHub hub(options);
            const RawClient client(hub);
            client.say(Hello{.node = "n"});
            const PeerId peer = await_hello(hub);
            {
                const RawClient stranger(hub);
                stranger.say(std::string(24, 'x'));  // refused, and from then on memory is scarce
                CHECK(eventually([&] { return is_scarce.load(); }));
            }
            const RawClient late(hub);
            client.say(Failed{.reason = std::string(1000, 'x')});
            client.leave();
            for (bool is_lost = false; !is_lost;) {
                const auto event = await(hub);
                const auto* lost = std::get_if<PeerLost>(&event);
                is_lost = lost != nullptr && lost->peer == peer;
            }
            become_plentiful();
            late.leave();
            CHECK(late.closed());
            CHECK(client.closed());
            CHECK(eventually([&] { return hub.statistics().connections == 0; }));
            HealthyNode healthy(hub, to(hub), "healthy");
            healthy.converse();
        }
    }

    TEST_CASE("a peer that there is no memory to tell something is lost, and nobody else") {
        const Plenty plenty;
        Log log;
        TcpHub hub(ticking(log));
        HealthyNode healthy(hub, to(hub), "healthy");
        for (int after = 0; after < 3; ++after) {
            CAPTURE(after);
            const RawClient client(hub);
            client.say(Hello{.node = "n"});
            const PeerId peer = await_hello(hub);
            become_scarce(after, 1'000'000);
            std::size_t sent = 1;
            for (int tries = 0; tries < 100 && sent > 0; ++tries)
                sent = hub.send(peer, Stop{.reason = "x"});
            become_plentiful();
            CHECK(sent == 0);
            const auto lost = await_one<PeerLost>(hub);
            CHECK(lost.peer == peer);
            CHECK(lost.reason == "out of memory");
            CHECK(client.closed());
            healthy.converse();
        }
    }

    TEST_CASE("without memory peers are admitted and dropped, and a hub closes") {
        const Plenty plenty;
        Log log;
        TcpHub hub(ticking(log));
        const RawClient client(hub);
        client.say(Hello{.node = "n"});
        const PeerId peer = await_hello(hub);
        become_scarce(0, 1'000'000);
        hub.admit(peer, FrameLimits::for_model(1000, 1));
        hub.drop(peer, "x");
        become_plentiful();
        CHECK(client.closed());
        CHECK_FALSE(hub.next_event(Clock::now()));
        become_scarce(0, 1'000'000);
        hub.close();
    }

    TEST_CASE("a channel whose thread has no memory fails with an IoError") {
        const Plenty plenty;
        Log log;
        TcpHub hub(ticking(log));
        for (int after = 0; after < 20; ++after) {
            CAPTURE(after);
            TcpChannelOptions options = to(hub);
            options.limits = impatient();
            options.written = [&](std::uint64_t) { become_scarce(after, 1'000'000); };
            const auto channel = connect_tcp(options);
            channel->send(Hello{.node = "n"});
            const PeerId peer = await_hello(hub);
            for (int i = 0; i < 40; ++i)  // of which each takes memory
                hub.send(peer, Welcome{.job = std::string(10'000, ' ')});
            bool is_over = false;
            try {
                while (channel->receive()) {
                }
                is_over = true;
            } catch (const IoError& error) {
                is_over = std::string(error.what()).find("out of memory") != std::string::npos;
            }
            become_plentiful();
            CHECK(is_over);
            await_one<PeerLost>(hub);
        }
    }
}
