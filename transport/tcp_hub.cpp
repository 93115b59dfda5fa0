// What the hub does on the thread of its caller.
#include "transport/tcp.hpp"

#include "core/error.hpp"
#include "transport/detail/tcp_server.hpp"

#include <algorithm>
#include <new>

namespace dither {
namespace {

using detail::AccessRules;
using detail::Connection;

constexpr std::chrono::milliseconds kPatience{100};

}  // namespace

std::shared_ptr<Connection> TcpHub::Server::connection_of(PeerId peer) const {
    const std::lock_guard lock(mutex_);
    const auto found = peers_.find(peer);
    return found == peers_.end() ? nullptr : found->second;
}

std::shared_ptr<Connection> TcpHub::Server::forget(PeerId peer) {
    const std::lock_guard lock(mutex_);
    const auto found = peers_.extract(peer);
    return found.empty() ? nullptr : found.mapped();
}

std::optional<HubEvent> TcpHub::Server::next_event(Clock::time_point deadline) {
    return events_.pop(std::min(deadline, Clock::now() + kPatience));
}

std::size_t TcpHub::Server::send(PeerId peer, const Message& message) {
    const auto connection = connection_of(peer);
    if (connection == nullptr)
        return 0;
    try {
        detail::OutgoingFrame frame(message);
        const std::size_t size = frame.size();
        if (post([connection, frame = std::move(frame)]() mutable { connection->send(std::move(frame)); }))
            return size;
    } catch (const std::bad_alloc&) {
    }
    connection->give_up();
    return 0;
}

void TcpHub::Server::admit(PeerId peer, const FrameLimits& limits) {
    const auto connection = connection_of(peer);
    if (connection == nullptr)
        return;
    connection->admit(limits);
    resume_parked_later();
}

void TcpHub::Server::drop(PeerId peer, const std::string& reason) {
    send(peer, Stop{reason});
    events_.forget(peer);
    const auto connection = forget(peer);
    if (connection == nullptr)
        return;
    const bool is_posted = post([this, connection] {
        if (const auto guest = guests_.find(connection.get()); guest != guests_.end())
            account(guest->second, 0);
        connection->finish();
        resume_parked();
    });
    if (!is_posted)
        connection->give_up();
}

void TcpHub::Server::close() {
    if (std::exchange(is_closed_, true))
        return;
    events_.close();
    try {
        std::promise<void> all_gone;
        if (post([this, &all_gone] { begin_closing(all_gone); }))
            all_gone.get_future().wait();
    } catch (const std::bad_alloc&) {  // then what is queued is not delivered
    }
    io_.stop();
    const std::lock_guard lock(mutex_);
    peers_.clear();
}

void TcpHub::Server::reload() {
    if (!post([this, rules = std::make_shared<AccessRules>(options_)] { apply(std::move(*rules)); }))
        throw std::bad_alloc();
}

HubStatistics TcpHub::Server::statistics() const {
    const std::lock_guard lock(mutex_);
    return {.accepted = accepted_,
            .refused = refused_,
            .connections = connected_,
            .peers = peers_.size(),
            .bytes_in = traffic_.in,
            .bytes_out = traffic_.out};
}

TcpHub::TcpHub(const TcpHubOptions& options) try : server_(std::make_unique<Server>(options)) {
} catch (const boost::system::system_error& error) {
    throw IoError(fmt::format("{}: {}", to_string(options.listen), error.code().message()));
}

TcpHub::~TcpHub() = default;

Endpoint TcpHub::endpoint() const {
    return server_->endpoint();
}

void TcpHub::reload() {
    server_->reload();
}

HubStatistics TcpHub::statistics() const {
    return server_->statistics();
}

std::optional<HubEvent> TcpHub::next_event(Clock::time_point deadline) {
    return server_->next_event(deadline);
}

std::size_t TcpHub::send(PeerId peer, const Message& message) {
    return server_->send(peer, message);
}

void TcpHub::admit(PeerId peer, const FrameLimits& limits) {
    server_->admit(peer, limits);
}

void TcpHub::drop(PeerId peer, const std::string& reason) {
    server_->drop(peer, reason);
}

void TcpHub::close() {
    server_->close();
}

}  // namespace dither
