// Hub and channel over TCP, with TLS 1.3 or, on loopback only, without. README.md: 'TCP and TLS'.
#pragma once

#include "transport/hub.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace dither {

struct Endpoint {
    std::string host;        ///< a name or an address; an IPv6 address without its brackets
    std::uint16_t port = 0;  ///< 0: any free one, where one listens
    bool operator==(const Endpoint&) const = default;
};
/// "HOST:PORT" or "[IPv6]:PORT". Throws InputError.
Endpoint parse_endpoint(const std::string& text);
std::string to_string(const Endpoint& endpoint);

/// PEM files. They are read again by reload(), and nothing changes if one of them cannot be.
struct TlsFiles {
    std::filesystem::path certificate;  ///< this end's, with the intermediate ones behind it
    std::filesystem::path key;
    std::filesystem::path authority;  ///< whose signature the other end's certificate must bear
    std::filesystem::path revoked;    ///< a revocation list of the authority; empty: none
};

/// What a connection may cost, and how long its steps may take.
struct ConnectionLimits {
    std::chrono::milliseconds handshake{5'000};   ///< TLS, and then the hello: each
    std::chrono::milliseconds header{10'000};     ///< from a frame's first byte to the end of its header
    std::size_t body_rate = 1024;                 ///< bytes a second of a body that takes longer than `header`
    std::chrono::milliseconds heartbeat{15'000};  ///< one is sent when nothing else was for so long
    std::chrono::milliseconds dead{45'000};       ///< a peer that says nothing for so long is lost
    std::chrono::milliseconds linger{5'000};      ///< for delivering what is queued where an end closes
    std::size_t queue_bytes = std::size_t{64}
                              << 20;  ///< to one peer, beyond a frame: a peer that does not read is lost
};

struct TcpHubOptions {
    Endpoint listen;
    std::optional<TlsFiles> tls;    ///< none: plaintext, refused (InputError) unless `listen` is a loopback address
    std::filesystem::path allowed;  ///< node ids, one a line, that may join; empty: all that the authority signed
    ConnectionLimits limits;
    std::size_t connections = 16'384;                      ///< at most, and of these:
    std::size_t strangers = 256;                           ///< that have not said hello; more wait to be accepted
    std::size_t strangers_an_address = 64;                 ///< of one IPv4 address or IPv6 /64; loopback is not limited
    std::size_t in_flight_bytes = std::size_t{256} << 20;  ///< received, not yet taken by next_event(): beyond it
                                                           ///< sockets are not read, except for one frame
    std::size_t queued_bytes = std::size_t{256} << 20;     ///< memory of what waits for all peers, beyond two frames:
                                                           ///< the peer that takes most of it is lost
    /// Told what operators should know, a line a refusal or reload, at most 120 a minute; on the hub's own thread.
    std::function<void(const std::string& line)> log;
};

/// What a hub has seen so far.
struct HubStatistics {
    std::uint64_t accepted = 0;     ///< connections
    std::uint64_t refused = 0;      ///< of these: by handshake, limits, or a frame that is none
    std::uint64_t connections = 0;  ///< now, strangers included
    std::uint64_t peers = 0;        ///< of these: have proved who they are and said hello
    std::uint64_t bytes_in = 0;     ///< of frames, heartbeats included; without TLS and what lies below
    std::uint64_t bytes_out = 0;
};

/// The aggregator's end. A thread of its own accepts, reads and writes; all other members are for one caller's thread,
/// except statistics() and reload(), which any may call.
class TcpHub final : public Hub {
public:
    /// Listens when it returns. Throws InputError on unusable options or files, IoError if the port cannot be had.
    explicit TcpHub(const TcpHubOptions& options);
    ~TcpHub() override;

    Endpoint endpoint() const;  ///< where it listens, with the port that it got
    /// Reads certificates, revocation list and allowed ids again. Peers that are no longer allowed are told why and
    /// lost; all others go on. Throws InputError if a file cannot be used, and everything is as before.
    void reload();
    HubStatistics statistics() const;

    std::optional<HubEvent> next_event(Clock::time_point deadline) override;
    std::size_t send(PeerId peer, const Message& message) override;
    void admit(PeerId peer, const FrameLimits& limits) override;
    void drop(PeerId peer, const std::string& reason) override;
    void close() override;
    bool peers_return() const override { return true; }

private:
    class Server;
    std::unique_ptr<Server> server_;
};

struct TcpChannelOptions {
    Endpoint aggregator;
    std::optional<TlsFiles> tls;  ///< none: plaintext, refused (InputError) unless the aggregator is on loopback
    ConnectionLimits limits;
    std::chrono::milliseconds connect{10'000};  ///< for TCP, and again for TLS, with each of its host's addresses
    /// Told of bytes that a socket has taken: frames, heartbeats, and TLS with its handshake, even of attempts that
    /// fail. On a thread of the channel's; it throws nothing.
    std::function<void(std::uint64_t bytes)> written;
};

/// A node's end: connected, and the aggregator's certificate checked, when it returns. A thread of its own answers for
/// heartbeats while the node trains. Throws InputError on files that cannot be used, IoError if the aggregator cannot
/// be reached or is not who it should be, or the channel's thread has no memory; std::bad_alloc where the caller's has
/// none, std::system_error if there is no thread. stop() may be called from any thread: receive() then returns nothing.
class TcpChannel : public Channel {
public:
    virtual void stop() = 0;
};
std::unique_ptr<TcpChannel> connect_tcp(const TcpChannelOptions& options);

}  // namespace dither
