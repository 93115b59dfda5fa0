// The MPI hub between real ranks: mpirun -n 3 mpi_hub_test. Every rank checks its own side; the first failure ends all.
#include "transport/mpi.hpp"

#include "core/error.hpp"

#include <sys/resource.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <set>
#include <vector>

namespace {

using namespace dither;
using namespace std::chrono_literals;

constexpr std::size_t kChunkBytes = 1000;
// Around one chunk, around several, and far over what MPI sends eagerly.
constexpr std::array<std::size_t, 8> kPayloads{0, 1, 500, 999, 1000, 1001, 65'536, 300'000};
constexpr FrameLimits kLargeEnough{.body_bytes = 1 << 20, .layers = 1};
constexpr auto kIdle = 1s;
constexpr double kIdleShare = 0.2;  // of one processor: generous, against the 1.0 of a rank that spins
constexpr PeerId kStaying = 1;      // idles, and still talks when the hub closes
constexpr PeerId kLeaving = 2;      // says too much, and leaves

/// Ends this rank on the spot, and mpirun the others: they would wait for it in vain.
void expect(bool holds, const char* what) {
    if (holds)
        return;
    std::fprintf(stderr, "not so: %s\n", what);
    std::_Exit(1);
}

std::vector<std::byte> pattern(std::size_t size) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i)
        bytes[i] = static_cast<std::byte>(i * 31 + i / 251);
    return bytes;
}

double processor_seconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// Runs `wait` and checks that it cost little of the time that it took.
void expect_idle(const std::function<void()>& wait, const char* what) {
    const double used = processor_seconds();
    const auto begin = Clock::now();
    wait();
    const std::chrono::duration<double> waited = Clock::now() - begin;
    expect(waited > 0.9 * kIdle, "the idle time is as long as planned");
    expect(processor_seconds() - used < kIdleShare * waited.count(), what);
}

HubEvent await(Hub& hub) {
    for (;;)
        if (auto event = hub.next_event(Clock::now() + 1s))
            return *std::move(event);
}

void expect_joined(Hub& hub) {
    std::set<PeerId> joined;
    joined.insert(std::get<PeerJoined>(await(hub)).peer);
    joined.insert(std::get<PeerJoined>(await(hub)).peer);
    expect(joined == std::set<PeerId>{kStaying, kLeaving}, "both ranks have joined");
}

/// All tasks go out before any answer is read: nothing may block.
void exchange(Hub& hub) {
    for (const std::size_t size : kPayloads)
        for (const PeerId peer : {kStaying, kLeaving}) {
            const Message task = RoundPlan{.client = peer, .parts = {{.payload = pattern(size)}}};
            expect(hub.send(peer, task) == encode_frame(task).size(), "send returns the bytes of the frame");
        }
    std::array<std::size_t, 3> answers{};
    for (std::size_t i = 0; i < 2 * kPayloads.size(); ++i) {
        const auto received = std::get<Received>(await(hub));
        const Message expected{
            Update{.client = received.peer, .payload = pattern(kPayloads[answers[received.peer]++])}};
        expect(received.message == expected, "the echo is what was sent, in order");
        expect(received.wire_bytes == encode_frame(expected).size(), "a frame is counted with its header");
    }
}

void expect_lost(Hub& hub) {
    hub.admit(kLeaving, FrameLimits{});
    hub.send(kLeaving, Stop{.reason = "say too much"});
    const auto lost = std::get<PeerLost>(await(hub));
    expect(lost.peer == kLeaving, "the peer that says too much is lost");
    expect(lost.reason.find("exceeds the limit") != std::string::npos, "the loss has its reason");
    expect(hub.send(kLeaving, Stop{}) == 0, "nothing is sent to a lost peer");
}

void aggregate(const MpiSession& session) {
    const auto hub = make_mpi_hub(session, kChunkBytes);
    expect_joined(*hub);
    hub->admit(kStaying, kLargeEnough);
    hub->admit(kLeaving, kLargeEnough);
    exchange(*hub);
    expect_lost(*hub);
    expect_idle(
        [&] {
            const auto until = Clock::now() + kIdle;
            while (Clock::now() < until)
                expect(!hub->next_event(until), "nothing happens while all are idle");
        },
        "an idle hub uses little processor time");
    hub->send(kStaying, Stop{.reason = "done"});
    hub->close();
    hub->close();
    expect(!hub->next_event(Clock::now()), "a closed hub has no events");
}

void echo(Channel& channel) {
    for (const std::size_t size : kPayloads) {
        const auto message = channel.receive();
        expect(message.has_value(), "the hub is there");
        const auto& task = std::get<RoundPlan>(*message);
        expect(task.parts.at(0).payload == pattern(size), "the task is what was sent, in order");
        channel.send(Update{.client = task.client, .payload = pattern(size)});
    }
}

void stay(Channel& channel) {
    std::optional<Message> message;
    expect_idle([&] { message = channel.receive(); }, "an idle rank uses little processor time");
    expect(message == Message(Stop{.reason = "done"}), "what is queued is delivered before the end");
    // The hub closes meanwhile and does not want this any more; neither end may hang on it.
    channel.send(Update{.payload = pattern(300'000)});
    expect(!channel.receive(), "the hub is gone");
    channel.send(Stop{});
}

void leave(Channel& channel) {
    expect(channel.receive() == Message(Stop{.reason = "say too much"}), "the last message arrives");
    channel.send(Update{.payload = pattern(300'000)});
    channel.send(Update{.payload = pattern(300'000)});
    expect(!channel.receive(), "a refused peer learns that it is not heard any more");
}

void serve(const MpiSession& session) {
    const auto channel = make_mpi_channel(session, kChunkBytes);
    echo(*channel);
    if (session.rank() == kStaying)
        stay(*channel);
    else
        leave(*channel);
}

void alone(const MpiSession& session) {
    expect(session.rank() == 0 && session.size() == 1, "without mpirun there is one rank");
    try {
        make_mpi_hub(session);
    } catch (const PreconditionError&) {
        return;
    }
    expect(false, "without mpirun there is no hub");
}

}  // namespace

int main(int argc, char** argv) {
    MpiSession session(argc, argv);
    try {
        if (!session.active())
            alone(session);
        else if (session.rank() == 0)
            aggregate(session);
        else
            serve(session);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "rank %d: %s\n", session.rank(), error.what());
        session.abort(1);
    }
    return 0;
}
