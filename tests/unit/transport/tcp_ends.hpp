// What tests of the TCP hub share: short limits, a hub with its log, waiting for events, and a client that says
// whatever bytes it likes.
#pragma once

#include "transport/tcp.hpp"

#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace dither::test {

using namespace std::chrono_literals;

/// For what must happen, however slow the machine is.
inline constexpr auto kGenerous = 30s;

/// Resident memory of this process, in KiB.
inline std::size_t resident_kib() {
    std::ifstream status("/proc/self/statm");
    std::size_t total = 0, resident = 0;
    status >> total >> resident;
    return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) / 1024;
}

class Log {
public:
    auto sink() {
        return [this](const std::string& line) {
            const std::lock_guard lock(mutex_);
            lines_.push_back(line);
        };
    }
    std::vector<std::string> lines() const {
        const std::lock_guard lock(mutex_);
        return lines_;
    }
    std::size_t count(const std::string& part) const {
        std::size_t found = 0;
        for (const std::string& line : lines())
            found += line.find(part) != std::string::npos ? 1 : 0;
        return found;
    }
    /// Once `part` is in a line.
    bool has(const std::string& part) const {
        const auto until = Clock::now() + kGenerous;
        while (count(part) == 0 && Clock::now() < until)
            std::this_thread::sleep_for(2ms);
        INFO("lines: ", doctest::toString(lines().size()), lines().empty() ? "" : lines().back());
        CHECK(count(part) == 1);
        return count(part) == 1;
    }

private:
    mutable std::mutex mutex_;
    std::vector<std::string> lines_;
};

inline TcpHubOptions on_loopback(Log& log) {
    TcpHubOptions options;
    options.listen = {"127.0.0.1", 0};
    options.log = log.sink();
    return options;
}

/// Where steps are to fail soon.
inline ConnectionLimits impatient() {
    ConnectionLimits limits;
    limits.handshake = 1500ms;
    limits.header = 200ms;
    limits.linger = 1s;
    return limits;
}

inline TcpChannelOptions to(const TcpHub& hub) {
    TcpChannelOptions options;
    options.aggregator = hub.endpoint();
    return options;
}

inline HubEvent await(Hub& hub) {
    const auto until = Clock::now() + kGenerous;
    while (Clock::now() < until)
        if (auto event = hub.next_event(until))
            return *std::move(event);
    throw std::runtime_error("nothing happened");
}

template <typename Event>
Event await_one(Hub& hub) {
    HubEvent event = await(hub);
    if (const auto* lost = std::get_if<PeerLost>(&event); lost != nullptr && !std::is_same_v<Event, PeerLost>)
        throw std::runtime_error("lost: " + lost->reason);
    return std::get<Event>(std::move(event));
}

/// A peer that has said hello.
inline PeerId await_hello(Hub& hub) {
    const PeerId peer = await_one<PeerJoined>(hub).peer;
    REQUIRE(std::holds_alternative<Hello>(await_one<Received>(hub).message));
    return peer;
}

/// Until what an I/O thread does has been done.
template <typename Condition>
bool eventually(Condition condition) {
    const auto until = Clock::now() + kGenerous;
    while (!condition() && Clock::now() < until)
        std::this_thread::sleep_for(2ms);
    return condition();
}

/// Says and hears bytes.
class RawClient {
public:
    explicit RawClient(const TcpHub& hub, int receive_buffer = 0) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
        if (receive_buffer > 0)
            ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(hub.endpoint().port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
            throw std::runtime_error("cannot connect");
        const timeval patience{.tv_sec = 30, .tv_usec = 0};
        ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    }
    RawClient(const RawClient&) = delete;
    RawClient& operator=(const RawClient&) = delete;
    ~RawClient() { ::close(socket_); }

    /// False once the hub does not take it any more.
    bool say(std::span<const std::byte> bytes) const {
        while (!bytes.empty()) {
            const auto count = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (count <= 0)
                return false;
            bytes = bytes.subspan(static_cast<std::size_t>(count));
        }
        return true;
    }
    bool say(const Message& message) const { return say(encode_frame(message)); }
    bool say(const std::string& text) const { return say(std::as_bytes(std::span(text))); }
    void leave() const { ::shutdown(socket_, SHUT_WR); }

    /// The hub has closed the connection; what it said before is thrown away.
    bool closed() const {
        std::byte buffer[4096];
        for (;;) {
            const auto count = ::recv(socket_, buffer, sizeof buffer, 0);
            if (count <= 0)
                return count == 0 || errno == ECONNRESET;
        }
    }
    std::vector<std::byte> hear(std::size_t size) const {
        std::vector<std::byte> bytes(size);
        for (std::size_t at = 0; at < size;) {
            const auto count = ::recv(socket_, bytes.data() + at, size - at, 0);
            if (count <= 0)
                throw std::runtime_error("the hub said less");
            at += static_cast<std::size_t>(count);
        }
        return bytes;
    }

private:
    int socket_;
};

/// A node that is well throughout: it says something, the hub answers, whatever else is going on.
class HealthyNode {
public:
    HealthyNode(TcpHub& hub, const TcpChannelOptions& options, const std::string& name)
        : hub_(hub), channel_(connect_tcp(options)) {
        channel_->send(Hello{.node = name});
        peer_ = await_hello(hub);
        hub_.admit(peer_, FrameLimits::for_model(1000, 1));
    }
    void converse() {
        channel_->send(Failed{.round = ++round_, .reason = "still here"});
        const auto received = await_one<Received>(hub_);
        CHECK(received.peer == peer_);
        CHECK(std::get<Failed>(received.message).round == round_);
        hub_.send(peer_, RoundCommitted{.round = round_});
        CHECK(channel_->receive() == Message(RoundCommitted{.round = round_}));
    }

private:
    TcpHub& hub_;
    std::unique_ptr<TcpChannel> channel_;
    PeerId peer_ = 0;
    std::uint32_t round_ = 0;
};

}  // namespace dither::test
