// What the hub does on the thread of its caller.
#include "transport/tcp.hpp"

#include "transport/detail/tcp_server.hpp"

#include <algorithm>

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
    auto connection = connection_of(peer);
    if (connection == nullptr)
        return 0;
    auto frame = std::make_shared<const std::vector<std::byte>>(encode_frame(message));
    const std::size_t size = frame->size();
    post([connection = std::move(connection), frame = std::move(frame)]() mutable {
        connection->send(std::move(frame));
    });
    return size;
}

void TcpHub::Server::admit(PeerId peer, const FrameLimits& limits) {
    auto connection = connection_of(peer);
    if (connection == nullptr)
        return;
    connection->admit(limits);
    post([this, connection = std::move(connection)] {
        if (const auto guest = guests_.find(connection.get()); guest != guests_.end())
            guest->second.admitted = true;
        resume_parked();
    });
}

void TcpHub::Server::drop(PeerId peer, const std::string& reason) {
    send(peer, Stop{reason});
    events_.forget(peer);
    auto connection = forget(peer);
    if (connection == nullptr)
        return;
    post([this, connection = std::move(connection)] {
        connection->finish();
        resume_parked();
    });
}

void TcpHub::Server::close() {
    if (std::exchange(is_closed_, true))
        return;
    events_.close();
    std::promise<void> all_gone;
    post([this, &all_gone] { begin_closing(all_gone); });
    all_gone.get_future().wait();
    io_.stop();
    peers_.clear();
}

void TcpHub::Server::reload() {
    post([this, rules = std::make_shared<AccessRules>(options_)] { apply(std::move(*rules)); });
}

HubStatistics TcpHub::Server::statistics() const {
    return {.accepted = accepted_,
            .refused = refused_,
            .connections = connected_,
            .bytes_in = traffic_.in,
            .bytes_out = traffic_.out};
}

TcpHub::TcpHub(const TcpHubOptions& options) : server_(std::make_unique<Server>(options)) {}

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
