// What the hub does on its I/O thread.
#include "transport/detail/tcp_server.hpp"

#include "core/error.hpp"

#include <new>

namespace dither {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using detail::AccessRules;
using detail::Address;
using detail::Connection;
using detail::Ending;

constexpr std::chrono::milliseconds kPauseOfAccepting{100};  ///< where there are no files left for sockets
/// What a peer may have in the queue before it is admitted.
constexpr std::size_t kUnadmittedBytes = FrameLimits{}.body_bytes;

}  // namespace

TcpHub::Server::Server(const TcpHubOptions& options)
    : options_(options),
      rules_(options),
      log_(options.log),
      shared_{.owner = *this, .limits = options_.limits, .traffic = traffic_, .scratch = scratch_, .must_read = true},
      events_([this] { post([this] { resume_parked(); }); }),
      acceptor_(io_.context()),
      ticker_(io_.context(), detail::check_interval(options_.limits), [this] { tick(); }),
      accept_again_(io_.context()) {
    listen();
    accept();
    ticker_.start();
    io_.start();
}

void TcpHub::Server::listen() {
    const Address address = detail::resolve(options_.listen).front();
    detail::require_safe(address, options_.tls.has_value());
    try {
        acceptor_.open(address.protocol());
        acceptor_.set_option(asio::ip::tcp::acceptor::reuse_address(true));
        acceptor_.bind(address);
        acceptor_.listen();
    } catch (const boost::system::system_error& error) {
        throw IoError(fmt::format("cannot listen on {}: {}", to_string(options_.listen), error.code().message()));
    }
    endpoint_ = {options_.listen.host, acceptor_.local_endpoint().port()};
}

// Connections

/// Strangers beyond the limit wait where the kernel keeps them: when a thousand nodes come back at once, they all get
/// in.
void TcpHub::Server::accept() {
    if (accepting_ || closing_ || strangers_ >= options_.strangers)
        return;
    accepting_ = true;
    acceptor_.async_accept([this](const error_code& error, detail::Socket socket) {
        accepting_ = false;
        if (error != asio::error::operation_aborted)
            accepted(error, std::move(socket));
    });
}

void TcpHub::Server::accepted(const error_code& error, detail::Socket socket) {
    if (closing_)
        return;
    if (!error) {
        accept_failed_ = false;
        error_code gone;
        const Address address = socket.remote_endpoint(gone);
        if (!gone)
            welcome(std::move(socket), address);
        return accept();
    }
    if (!std::exchange(accept_failed_, true))
        log_.line(fmt::format("cannot accept connections: {}; trying on", error.message()));
    accept_again_.expires_after(kPauseOfAccepting);
    accept_again_.async_wait([this](const error_code& cancelled) {
        if (!cancelled)
            accept();
    });
}

const char* TcpHub::Server::refusal(const std::string& origin) const {
    if (guests_.size() >= options_.connections)
        return "there are too many connections";
    const auto same = strangers_of_.find(origin);
    if (!origin.empty() && same != strangers_of_.end() && same->second >= options_.strangers_an_address)
        return "there are too many strangers of this address";
    return nullptr;
}

void TcpHub::Server::welcome(detail::Socket socket, const Address& address) {
    ++accepted_;
    Guest guest{.connection = nullptr,
                .address = detail::text_of(address),
                .origin = detail::is_loopback(address) ? "" : detail::origin_of(address)};
    if (const char* const reason = refusal(guest.origin))
        return refuse(guest.name(), reason);
    try {
        admit_stranger(std::move(guest), std::move(socket));
    } catch (const std::bad_alloc&) {
        refuse(detail::text_of(address), "no memory is left for it");
    }
}

void TcpHub::Server::admit_stranger(Guest guest, detail::Socket socket) {
    const auto make_stream = [&](detail::Socket& connected) -> std::unique_ptr<detail::ByteStream> {
        if (rules_.tls() == nullptr)
            return detail::make_plain_stream(connected);
        auto stream = rules_.tls()->accept(connected);
        guest.tls = stream.get();
        return stream;
    };
    const auto connection = std::make_shared<Connection>(std::move(socket), make_stream, shared_);
    guest.connection = connection;
    const std::string origin = guest.origin;
    guests_.emplace(connection.get(), std::move(guest));
    ++strangers_;
    ++connected_;
    if (!origin.empty())
        ++strangers_of_[origin];
    connection->start();
}

void TcpHub::Server::refuse(const std::string& who, const std::string& reason) {
    ++refused_;
    log_.line(fmt::format("{} refused: {}", who, reason));
}

std::vector<std::shared_ptr<Connection>> TcpHub::Server::connections() const {
    std::vector<std::shared_ptr<Connection>> all;
    all.reserve(guests_.size());
    for (const auto& [connection, guest] : guests_)
        all.push_back(guest.connection);
    return all;
}

void TcpHub::Server::tick() {
    const auto now = Clock::now();
    for (const auto& connection : connections())
        connection->check(now);
}

void TcpHub::Server::no_stranger(Guest& guest) {
    --strangers_;
    if (const auto same = strangers_of_.find(guest.origin); same != strangers_of_.end() && --same->second == 0)
        strangers_of_.erase(same);
    accept();
}

void TcpHub::Server::closed(Connection& connection) {
    const auto found = guests_.find(&connection);
    account(found->second, 0);
    if (found->second.peer == 0)
        no_stranger(found->second);
    guests_.erase(found);
    --connected_;
    tell_if_all_gone();
}

void TcpHub::Server::begin_closing(std::promise<void>& all_gone) {
    closing_ = true;
    all_gone_ = &all_gone;
    error_code ignored;
    acceptor_.close(ignored);
    for (const auto& connection : connections())
        connection->finish();
    tell_if_all_gone();
}

void TcpHub::Server::tell_if_all_gone() {
    if (guests_.empty() && all_gone_ != nullptr)
        std::exchange(all_gone_, nullptr)->set_value();
}

// Peers

void TcpHub::Server::opened(Connection& connection) {
    Guest& guest = guests_.at(&connection);
    if (guest.tls != nullptr) {
        guest.node = guest.tls->node();
        if (guest.knocked_before)
            rules_.require_still_allowed(guest.node, *guest.tls);
        else
            rules_.require_allowed(guest.node);
    }
    connection.expect("a hello");
}

void TcpHub::Server::heard(Connection& connection, Message message, std::size_t wire_bytes) {
    Guest& guest = guests_.at(&connection);
    account(guest, 0);
    if (guest.peer == 0)
        join(guest, message);
    events_.push(Received{guest.peer, std::move(message), wire_bytes});
}

void TcpHub::Server::join(Guest& guest, const Message& first) {
    const auto* const hello = std::get_if<Hello>(&first);
    if (hello == nullptr)
        throw FormatError(fmt::format("a node says Hello first, not {}", name_of(first)));
    if (guest.tls != nullptr && hello->node != guest.node)
        throw FormatError(fmt::format("it calls itself {}, and its certificate does not", hello->node));
    if (guest.tls == nullptr)
        rules_.require_allowed(hello->node);
    guest.connection->came_true();
    guest.peer = ++last_peer_;
    no_stranger(guest);
    {
        const std::lock_guard lock(mutex_);
        peers_.emplace(guest.peer, guest.connection);
    }
    events_.expect(guest.peer);
    events_.push(PeerJoined{guest.peer, guest.node});
}

void TcpHub::Server::ended(Connection& connection, const Ending& ending) {
    Guest& guest = guests_.at(&connection);
    account(guest, 0);
    if (guest.peer == 0)
        return refuse(guest.name(), ending.kind == Ending::Kind::left ? "it left without a hello" : ending.reason);
    if (ending.kind == Ending::Kind::refused)
        refuse(guest.name(), ending.reason);
    {
        const std::lock_guard lock(mutex_);
        peers_.erase(guest.peer);
    }
    events_.push_last(PeerLost{guest.peer, ending.reason});
}

// Backpressure

bool TcpHub::Server::may_read(Connection& connection) {
    Guest& guest = guests_.at(&connection);
    account(guest, connection.partial_bytes());
    if (has_room(guest))
        return true;
    events_.ask_for_room();
    if (has_room(guest))
        return true;
    if (!std::exchange(guest.parked, true))
        parked_.push_back(guest.connection);
    return false;
}

/// Beyond the budget, one frame may go on when nothing else would ever make room: all that is held are frames that have
/// not ended.
bool TcpHub::Server::has_room(const Guest& guest) {
    if (!guest.admitted && events_.bytes_of(guest.peer) >= kUnadmittedBytes)
        return false;
    const std::size_t taken = events_.bytes();
    if (taken + partial_bytes_ < options_.in_flight_bytes)
        return true;
    if (taken != 0 || guest.partial == 0 || (exempt_ != nullptr && exempt_ != guest.connection.get()))
        return false;
    exempt_ = guest.connection.get();
    return true;
}

void TcpHub::Server::account(Guest& guest, std::size_t partial) {
    const bool ends = partial < guest.partial;
    partial_bytes_ += partial - std::exchange(guest.partial, partial);
    if (!ends)
        return;
    if (exempt_ == guest.connection.get())
        exempt_ = nullptr;
    if (!parked_.empty())
        post([this] { resume_parked(); });
}

void TcpHub::Server::resume_parked() {
    for (const auto& connection : std::exchange(parked_, {})) {
        if (const auto guest = guests_.find(connection.get()); guest != guests_.end())
            guest->second.parked = false;
        connection->resume();
    }
}

// Rules that change while it runs

void TcpHub::Server::apply(AccessRules rules) {
    rules_ = std::move(rules);
    const std::uint64_t before = refused_;
    for (const auto& connection : connections())
        check_again(guests_.at(connection.get()));
    log_.line(fmt::format("certificates and lists are read again: {} connections ended", refused_ - before));
}

void TcpHub::Server::check_again(Guest& guest) {
    if (guest.node.empty()) {
        guest.knocked_before = true;
        return;
    }
    try {
        rules_.require_still_allowed(guest.node, *guest.tls);
    } catch (const FormatError& error) {
        guest.connection->end({Ending::Kind::refused, error.what()});
    }
}

}  // namespace dither
