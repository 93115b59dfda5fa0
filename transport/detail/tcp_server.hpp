// The hub behind TcpHub: its sockets on one thread, its events for another.
#pragma once

#include "transport/detail/access_rules.hpp"
#include "transport/detail/connection.hpp"
#include "transport/detail/endpoint.hpp"
#include "transport/detail/event_queue.hpp"
#include "transport/detail/io_thread.hpp"
#include "transport/detail/log_gate.hpp"
#include "transport/detail/ticker.hpp"
#include "transport/tcp.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include <atomic>
#include <cstdint>
#include <exception>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace dither {

/// What is not marked otherwise lives on the I/O thread. Where that has no memory for what is due, tick() does it as
/// soon as there is some: nothing but the connection concerned ends.
class TcpHub::Server final : private detail::ConnectionOwner {
public:
    explicit Server(const TcpHubOptions& options);
    ~Server() { close(); }

    Endpoint endpoint() const { return endpoint_; }
    void reload();
    HubStatistics statistics() const;
    std::optional<HubEvent> next_event(Clock::time_point deadline);
    std::size_t send(PeerId peer, const Message& message);
    void admit(PeerId peer, const FrameLimits& limits);
    void drop(PeerId peer, const std::string& reason);
    void close();

private:
    static constexpr std::size_t kScratchBytes = std::size_t{64} << 10;

    struct Guest {
        std::shared_ptr<detail::Connection> connection;
        detail::TlsStream* tls = nullptr;  ///< the connection's stream
        std::string address;
        std::string origin;  ///< empty: not counted
        std::string node{};  ///< proved; in plaintext what its hello says
        PeerId peer = 0;     ///< 0: a stranger
        bool parked = false;
        bool knocked_before = false;  ///< its handshake is under rules that have changed since
        std::size_t partial = 0;      ///< its share of partial_bytes_

        std::string name() const { return node.empty() ? address : fmt::format("{} ({})", address, node); }
    };

    void listen();
    /// Does nothing where it is under way; if there is no memory for it, tick() does it again.
    void accept() noexcept;
    void accepted(const boost::system::error_code& error, detail::Socket socket);
    void welcome(detail::Socket socket);
    void admit_stranger(Guest& guest, detail::Socket socket);
    /// Why no more connections are taken from there; nullptr if they are.
    const char* refusal(const std::string& origin) const;
    /// Counts and logs it.
    void refuse(const Guest& guest, std::string_view reason) noexcept;
    void log(std::string_view line) noexcept;
    /// What may be ended one after the other.
    std::vector<std::shared_ptr<detail::Connection>> connections() const;
    void tick();
    void shed();
    void hurry_exempt(Clock::time_point now);
    void be_patient_with(const Guest& exempt);
    void begin_closing(std::promise<void>& all_gone);
    void finish_all();
    void tell_if_all_gone();
    void apply(detail::AccessRules rules);
    void check_all_again();
    /// False if the rules do not let it in any more: then it is lost, and told why.
    bool check_again(Guest& guest);
    /// Tells a peer why it is lost.
    void part(Guest& guest, const std::string& reason);

    void opened(detail::Connection& connection) override;
    void heard(detail::Connection& connection, Message message, std::size_t wire_bytes) override;
    bool may_read(detail::Connection& connection) override;
    void ended(detail::Connection& connection, detail::Ending ending) noexcept override;
    void closed(detail::Connection& connection) noexcept override;

    void join(Guest& guest, const Message& first);
    void no_stranger(Guest& guest) noexcept;
    bool has_room(const Guest& guest);
    void account(Guest& guest, std::size_t partial) noexcept;
    void resume_parked();
    void resume_parked_later() noexcept {
        post([this] { resume_parked(); });
    }
    /// Any thread: the connection of a peer that has not been lost.
    std::shared_ptr<detail::Connection> connection_of(PeerId peer) const;
    std::shared_ptr<detail::Connection> forget(PeerId peer);
    /// Any thread. False, and nothing happens, if there is no memory for it.
    template <typename Call>
    bool post(Call call) noexcept {
        try {
            boost::asio::post(io_.context(), std::move(call));
            return true;
        } catch (const std::exception&) {
            return false;
        }
    }

    const TcpHubOptions options_;
    detail::AccessRules rules_;
    detail::LogGate log_;
    detail::Traffic traffic_;
    std::atomic<std::uint64_t> accepted_{0};
    std::atomic<std::uint64_t> refused_{0};
    std::atomic<std::uint64_t> connected_{0};
    std::vector<std::byte> scratch_ = std::vector<std::byte>(kScratchBytes);
    detail::Connection::Shared shared_;
    detail::EventQueue events_;  ///< any thread

    mutable std::mutex mutex_;  ///< guards the peers
    std::unordered_map<PeerId, std::shared_ptr<detail::Connection>> peers_;
    bool is_closed_ = false;  ///< the caller's

    detail::IoThread io_;
    boost::asio::ip::tcp::acceptor acceptor_;
    Endpoint endpoint_;
    detail::Ticker ticker_;
    boost::asio::steady_timer accept_again_;
    bool accepting_ = false;
    bool accept_failed_ = false;
    std::unordered_map<const detail::Connection*, Guest> guests_;
    std::size_t strangers_ = 0;
    std::unordered_map<std::string, std::size_t> strangers_of_;  ///< by origin
    PeerId last_peer_ = 0;
    std::vector<std::shared_ptr<detail::Connection>> parked_;  ///< may not read now
    std::size_t partial_bytes_ = 0;                            ///< of frames that have not ended
    const detail::Connection* exempt_ = nullptr;               ///< may go on reading beyond the budget
    Clock::time_point exempt_since_;
    std::size_t exempt_from_ = 0;      ///< the bytes that it had then
    bool rules_have_changed_ = false;  ///< and not all have been checked by them
    bool closing_ = false;
    std::promise<void>* all_gone_ = nullptr;  ///< kept when closing, once no connection is left
};

}  // namespace dither
