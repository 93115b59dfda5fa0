// What a broadcast costs the hub: so many peers are sent the same model at once, under a plan of their own each, and
// fetch it. The peers read and throw away; the process's memory beyond its beginning is the hub's.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "transport/tcp.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace dither {
namespace {

struct Options {
    std::size_t peers = 1000;
    std::size_t bytes = 4'000'000;
};

/// Of this process, in KiB: VmRSS, or its peak VmHWM.
std::size_t memory(const std::string& name) {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.rfind(name + ':', 0) == 0)
            return std::stoul(line.substr(name.size() + 1));
    throw std::runtime_error("no " + name);
}

void forget_peak() {
    std::ofstream("/proc/self/clear_refs") << 5;
}

void expect(bool holds, const char* what) {
    if (!holds)
        throw std::runtime_error(what);
}

int dial(const TcpHub& hub) {
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(hub.endpoint().port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    expect(::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "cannot connect");
    const auto hello = encode_frame(Hello{.node = "n"});
    expect(::send(socket, hello.data(), hello.size(), 0) == static_cast<ssize_t>(hello.size()), "cannot say hello");
    return socket;
}

/// Until each has read so many bytes.
void read_all(const std::vector<int>& sockets, std::size_t bytes) {
    std::vector<std::size_t> left(sockets.size(), bytes);
    std::vector<std::byte> scratch(1 << 16);
    std::vector<pollfd> waiting;
    for (const int socket : sockets)
        waiting.push_back({.fd = socket, .events = POLLIN, .revents = 0});
    for (std::size_t open = sockets.size(); open > 0;) {
        expect(::poll(waiting.data(), waiting.size(), 60'000) > 0, "nothing comes");
        for (std::size_t i = 0; i < waiting.size(); ++i) {
            if ((waiting[i].revents & POLLIN) == 0)
                continue;
            const auto count = ::recv(waiting[i].fd, scratch.data(), scratch.size(), 0);
            expect(count > 0 && static_cast<std::size_t>(count) <= left[i], "not what was sent");
            left[i] -= static_cast<std::size_t>(count);
            if (left[i] == 0) {
                waiting[i].fd = -1;
                --open;
            }
        }
    }
}

void run(const Options& options) {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    TcpHub hub({.listen = {"127.0.0.1", 0}, .tls = {}, .allowed = {}, .limits = {}, .log = {}});
    std::vector<int> sockets;
    std::vector<PeerId> peers;
    while (peers.size() < options.peers) {
        sockets.push_back(dial(hub));
        while (peers.size() < sockets.size())
            if (const auto event = hub.next_event(Clock::now() + std::chrono::seconds(1)))
                if (const auto* joined = std::get_if<PeerJoined>(&*event))
                    peers.push_back(joined->peer);
    }
    RoundPlan plan{.round = 2, .base = 1, .plan = PrecisionPlan::uniform(10, 8)};
    plan.parts = {{.round = 2, .steps = {}, .payload = std::vector<std::byte>(options.bytes, std::byte{7})}};
    Message message = plan;
    forget_peak();
    const std::size_t before = memory("VmRSS");
    const auto begun = Clock::now();
    std::size_t sent = 0;
    for (const PeerId peer : peers) {
        std::get<RoundPlan>(message).client = peer;
        sent += hub.send(peer, message);
    }
    const auto said = Clock::now();
    expect(sent > options.peers * options.bytes, "not all was sent");
    read_all(sockets, sent / options.peers);
    const auto fetched = Clock::now();
    const auto seconds = [](auto time) { return std::chrono::duration<double>(time).count(); };
    fmt::print(
        "{} peers fetch {} bytes each: {} KiB of memory, {:.2f} s until all is sent, {:.2f} s until all is fetched\n",
        options.peers, options.bytes, memory("VmHWM") - before, seconds(said - begun), seconds(fetched - begun));
}

}  // namespace
}  // namespace dither

int main(int argc, char** argv) {
    CLI::App app("Sends a model to many peers at once, and says what memory and time that took.");
    dither::Options options;
    app.add_option("--peers", options.peers, "How many")->capture_default_str();
    app.add_option("--bytes", options.bytes, "Of the model")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        dither::run(options);
    } catch (const std::exception& error) {
        fmt::print(stderr, "dither-bench-nodes-fetch: {}\n", error.what());
        return 1;
    }
    return 0;
}
