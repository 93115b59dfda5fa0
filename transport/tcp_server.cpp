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
constexpr std::string_view kNoHello = "it left without a hello";
/// What a peer may have in the queue before it is admitted.
constexpr std::size_t kUnadmittedBytes = FrameLimits{}.body_bytes;
/// Of one peer in the queue: an honest one has answers to two tasks there, and a hello.
constexpr std::size_t kWaitingMessages = 16;
/// Bytes a second that the one frame must bring which all others wait for.
constexpr double kExemptRate = 64 << 10;

}  // namespace

TcpHub::Server::Server(const TcpHubOptions& options)
    : options_(options),
      rules_(options),
      log_(options.log),
      shared_{.owner = *this, .limits = options_.limits, .traffic = traffic_, .scratch = scratch_, .must_read = true},
      events_([this] { resume_parked_later(); }),
      acceptor_(io_.context()),
      ticker_(io_.context(), detail::check_interval(options_.limits), [this] { tick(); }),
      accept_again_(io_.context()) {
    listen();
    accept();
    ticker_.start();
    io_.start([this] { ticker_.go_on(); });
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
void TcpHub::Server::accept() noexcept {
    if (accepting_ || closing_ || strangers_ >= options_.strangers)
        return;
    try {
        acceptor_.async_accept([this](const error_code& error, detail::Socket socket) {
            accepting_ = false;
            if (error != asio::error::operation_aborted)
                accepted(error, std::move(socket));
        });
        accepting_ = true;
    } catch (const std::exception&) {
    }
}

void TcpHub::Server::accepted(const error_code& error, detail::Socket socket) {
    if (closing_)
        return;
    if (!error) {
        accept_failed_ = false;
        welcome(std::move(socket));
        return accept();
    }
    if (!std::exchange(accept_failed_, true))
        log(fmt::format("cannot accept connections: {}; trying on", error.message()));
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

void TcpHub::Server::welcome(detail::Socket socket) {
    error_code gone;
    const Address address = socket.remote_endpoint(gone);
    if (gone)
        return;
    ++accepted_;
    Guest guest{.connection = nullptr, .address = {}, .origin = {}};
    try {
        guest.address = detail::text_of(address);
        guest.origin = detail::is_loopback(address) ? "" : detail::origin_of(address);
        if (const char* const reason = refusal(guest.origin))
            return refuse(guest, reason);
        admit_stranger(guest, std::move(socket));
    } catch (const std::exception&) {
        refuse(guest, detail::kNoMemory);
    }
}

void TcpHub::Server::admit_stranger(Guest& guest, detail::Socket socket) {
    const auto make_stream = [&](detail::Socket& connected) -> std::unique_ptr<detail::ByteStream> {
        if (rules_.tls() == nullptr)
            return detail::make_plain_stream(connected);
        auto stream = rules_.tls()->accept(connected);
        guest.tls = stream.get();
        return stream;
    };
    std::size_t* const of_origin = guest.origin.empty() ? nullptr : &strangers_of_[guest.origin];
    const auto connection = std::make_shared<Connection>(std::move(socket), make_stream, shared_);
    guest.connection = connection;
    guests_.emplace(connection.get(), guest);
    ++strangers_;
    ++connected_;
    if (of_origin != nullptr)
        ++*of_origin;
    connection->start();
}

void TcpHub::Server::refuse(const Guest& guest, std::string_view reason) noexcept {
    ++refused_;
    try {
        log(fmt::format("{} refused: {}", guest.name(), reason));
    } catch (const std::exception&) {
        log(detail::kNoMemory);
    }
}

void TcpHub::Server::log(std::string_view line) noexcept {
    try {
        log_.line(std::string(line));
    } catch (const std::exception&) {  // a line is lost
    }
}

std::vector<std::shared_ptr<Connection>> TcpHub::Server::connections() const {
    std::vector<std::shared_ptr<Connection>> all;
    all.reserve(guests_.size());
    for (const auto& [connection, guest] : guests_)
        all.push_back(guest.connection);
    return all;
}

void TcpHub::Server::tick() {
    accept();
    if (closing_)
        finish_all();
    if (rules_have_changed_)
        check_all_again();
    const auto now = Clock::now();
    for (const auto& connection : connections())
        connection->check(now);
    hurry_exempt(now);
    shed();
    resume_parked();
}

/// What waits for peers is bounded. A payload that the aggregator still broadcasts is shared by many, and hardly
/// counts; one that only a slow peer still waits for counts whole.
void TcpHub::Server::shed() {
    const auto all = connections();
    for (;;) {
        double memory = 0, most = 0;
        std::size_t largest = 0;
        Connection* greediest = nullptr;
        for (const auto& connection : all) {
            const double own = connection->queued_memory();
            memory += own;
            largest = std::max(largest, connection->largest_queued());
            if (own > most) {
                most = own;
                greediest = connection.get();
            }
        }
        if (memory <= static_cast<double>(options_.queued_bytes + 2 * largest))
            return;
        greediest->end({Ending::Kind::refused, fmt::format("{:.0f} bytes wait for it, more than for any other: it does "
                                                           "not read fast enough",
                                                           most)});
    }
}

void TcpHub::Server::no_stranger(Guest& guest) noexcept {
    --strangers_;
    if (const auto same = strangers_of_.find(guest.origin); same != strangers_of_.end() && --same->second == 0)
        strangers_of_.erase(same);
    accept();
}

void TcpHub::Server::closed(Connection& connection) noexcept {
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
    tell_if_all_gone();
    finish_all();
}

void TcpHub::Server::finish_all() {
    for (const auto& connection : connections())
        connection->finish();
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
            rules_.require_still_allowed(guest.node, guest.tls);
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
    guest.node = hello->node;
    guest.connection->came_true();
    guest.peer = ++last_peer_;
    no_stranger(guest);
    {
        const std::lock_guard lock(mutex_);
        peers_.emplace(guest.peer, guest.connection);
    }
    events_.expect(guest.peer);
    events_.push(PeerJoined{guest.peer, guest.tls != nullptr ? guest.node : ""});
}

void TcpHub::Server::ended(Connection& connection, Ending ending) noexcept {
    Guest& guest = guests_.find(&connection)->second;
    account(guest, 0);
    if (guest.peer == 0)
        return refuse(guest, ending.kind == Ending::Kind::left ? kNoHello : ending.reason);
    if (ending.kind == Ending::Kind::refused)
        refuse(guest, ending.reason);
    {
        const std::lock_guard lock(mutex_);
        peers_.erase(guest.peer);
    }
    events_.push_last(PeerLost{guest.peer, std::move(ending.reason)});
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

/// Who says much waits until that is taken: others are heard in between. Beyond the budget, one frame may go on when
/// nothing else would ever make room: all that is held are frames that have not ended.
bool TcpHub::Server::has_room(const Guest& guest) {
    const auto load = events_.load_of(guest.peer);
    if (load.messages >= kWaitingMessages || (!guest.connection->admitted() && load.bytes >= kUnadmittedBytes))
        return false;
    const std::size_t taken = events_.bytes();
    if (taken + partial_bytes_ < options_.in_flight_bytes)
        return true;
    if (taken != 0 || guest.partial == 0 || (exempt_ != nullptr && exempt_ != guest.connection.get()))
        return false;
    if (std::exchange(exempt_, guest.connection.get()) == nullptr)
        be_patient_with(guest);
    return true;
}

/// The one that all others wait for must not take its time.
void TcpHub::Server::hurry_exempt(Clock::time_point now) {
    if (exempt_ == nullptr)
        return;
    const Guest& guest = guests_.at(exempt_);
    const bool others_wait = !parked_.empty() && events_.bytes() + partial_bytes_ >= options_.in_flight_bytes;
    if (guest.parked || !others_wait)
        return be_patient_with(guest);
    const double seconds = std::chrono::duration<double>(now - exempt_since_).count();
    const bool is_slow = static_cast<double>(guest.partial - exempt_from_) < kExemptRate * seconds;
    if (is_slow && now - exempt_since_ >= options_.limits.header)
        guest.connection->end(
            {Ending::Kind::refused,
             fmt::format("others wait for its frame, and it brings fewer than {:.0f} bytes a second", kExemptRate)});
}

void TcpHub::Server::be_patient_with(const Guest& exempt) {
    exempt_since_ = Clock::now();
    exempt_from_ = exempt.partial;
}

void TcpHub::Server::account(Guest& guest, std::size_t partial) noexcept {
    const bool ends = partial < guest.partial;
    partial_bytes_ += partial - std::exchange(guest.partial, partial);
    if (!ends)
        return;
    if (exempt_ == guest.connection.get())
        exempt_ = nullptr;
    if (!parked_.empty())
        resume_parked_later();
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
    check_all_again();
}

void TcpHub::Server::check_all_again() {
    rules_have_changed_ = true;
    std::size_t ended = 0;
    for (const auto& connection : connections())
        ended += check_again(guests_.at(connection.get())) ? 0 : 1;
    rules_have_changed_ = false;
    log(fmt::format("certificates and lists are read again: {} connections ended", ended));
}

bool TcpHub::Server::check_again(Guest& guest) {
    if (guest.connection->is_over())
        return true;
    if (guest.node.empty()) {
        guest.knocked_before = true;
        return true;
    }
    try {
        rules_.require_still_allowed(guest.node, guest.tls);
        return true;
    } catch (const FormatError& error) {
        part(guest, error.what());
        return false;
    }
}

void TcpHub::Server::part(Guest& guest, const std::string& reason) {
    const auto connection = guest.connection;  // saying so may be its end, and the guest's
    if (guest.peer == 0)
        return connection->end({Ending::Kind::refused, reason});
    connection->send(detail::OutgoingFrame(Stop{reason}));
    if (connection->is_over())
        return;
    ended(*connection, {Ending::Kind::refused, reason});
    connection->finish();
}

}  // namespace dither
