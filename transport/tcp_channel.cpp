#include "transport/tcp.hpp"

#include "core/error.hpp"
#include "transport/detail/connection.hpp"
#include "transport/detail/endpoint.hpp"
#include "transport/detail/io_thread.hpp"
#include "transport/detail/ticker.hpp"
#include "transport/detail/tls.hpp"

#include <boost/asio/post.hpp>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>
#include <utility>

namespace dither {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using detail::Address;
using detail::Connection;
using detail::Ending;
using detail::TlsContext;

constexpr std::size_t kScratchBytes = std::size_t{64} << 10;
/// Beyond this the aggregator's messages wait on their way while the node trains, except for one.
constexpr std::size_t kInboxBytes = std::size_t{16} << 20;

/// A TCP connection, tried for so long. The context does not run elsewhere yet.
detail::Socket dial(asio::io_context& context, const Address& address, std::chrono::milliseconds patience) {
    detail::Socket socket(context);
    std::optional<error_code> result;
    socket.async_connect(address, [&](const error_code& error) { result = error; });
    const auto until = Clock::now() + patience;
    while (!result && context.run_one_until(until) > 0) {
    }
    const bool in_time = result.has_value();
    error_code ignored;
    if (!in_time)
        socket.close(ignored);
    while (!result)
        context.run_one();
    if (!in_time || *result)
        throw IoError(fmt::format("{}: {}", detail::text_of(address), in_time ? result->message() : "no answer"));
    return socket;
}

/// One address of the aggregator.
class Dialled final : public TcpChannel, private detail::ConnectionOwner {
public:
    Dialled(const TcpChannelOptions& options, const TlsContext* tls, const Address& address);
    ~Dialled() override;

    std::optional<Message> receive() override;
    void send(const Message& message) override;
    void stop() override;

private:
    struct Waiting {
        Message message;
        std::size_t bytes = 0;
    };

    void await_open(const Address& address);
    [[noreturn]] static void fail(const Ending& ending);

    // On the I/O thread:
    void opened(Connection& connection) override;
    void heard(Connection& connection, Message message, std::size_t wire_bytes) override;
    bool may_read(Connection& connection) override;
    void ended(Connection& connection, Ending ending) noexcept override;
    void closed(Connection& connection) noexcept override;

    const ConnectionLimits limits_;
    std::vector<std::byte> scratch_ = std::vector<std::byte>(kScratchBytes);
    detail::Traffic traffic_;
    Connection::Shared shared_;

    std::mutex mutex_;  ///< guards the following
    std::condition_variable changed_;
    std::deque<Waiting> inbox_;
    std::size_t inbox_bytes_ = 0;
    bool full_ = false;  ///< the connection waits for room
    bool open_ = false;
    bool stopped_ = false;
    bool closed_ = false;
    std::optional<Ending> ending_;

    detail::IoThread io_;
    detail::Ticker ticker_;
    std::shared_ptr<Connection> connection_;
};

/// The time for connecting is for TCP, and then for the handshake.
ConnectionLimits limits_of(const TcpChannelOptions& options) {
    ConnectionLimits limits = options.limits;
    limits.handshake = options.connect;
    return limits;
}

Dialled::Dialled(const TcpChannelOptions& options, const TlsContext* tls, const Address& address)
    : limits_(limits_of(options)),
      traffic_{.written = options.written},
      shared_{.owner = *this, .limits = limits_, .traffic = traffic_, .scratch = scratch_},
      ticker_(io_.context(), detail::check_interval(limits_), [this] { connection_->check(Clock::now()); }) {
    const auto make_stream = [&](detail::Socket& socket) -> std::unique_ptr<detail::ByteStream> {
        if (tls == nullptr)
            return detail::make_plain_stream(socket);
        return tls->connect(socket, options.aggregator.host);
    };
    connection_ = std::make_shared<Connection>(dial(io_.context(), address, options.connect), make_stream, shared_);
    connection_->admit(FrameLimits::for_node());
    connection_->start();
    ticker_.start();
    io_.start([this] { ticker_.go_on(); });
    await_open(address);
}

void Dialled::await_open(const Address& address) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_ || ending_; });
    if (!open_) {
        const std::string reason = ending_->reason;
        lock.unlock();
        io_.stop();
        throw IoError(fmt::format("{}: {}", detail::text_of(address), reason));
    }
}

Dialled::~Dialled() {
    try {
        asio::post(io_.context(), [this] { connection_->finish(); });
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return closed_; });
    } catch (const std::bad_alloc&) {  // then what is queued is not delivered
    }
    io_.stop();
}

std::optional<Message> Dialled::receive() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !inbox_.empty() || ending_ || stopped_; });
    if (stopped_)
        return std::nullopt;
    if (inbox_.empty()) {
        if (ending_->kind == Ending::Kind::left)
            return std::nullopt;
        fail(*ending_);
    }
    if (full_) {
        asio::post(io_.context(), [connection = connection_] { connection->resume(); });  // it waits for mutex_
        full_ = false;
    }
    Waiting first = std::move(inbox_.front());
    inbox_.pop_front();
    inbox_bytes_ -= first.bytes;
    return std::move(first.message);
}

void Dialled::fail(const Ending& ending) {
    if (ending.kind == Ending::Kind::refused)
        throw FormatError(fmt::format("the aggregator: {}", ending.reason));
    throw IoError(fmt::format("the connection to the aggregator: {}", ending.reason));
}

void Dialled::send(const Message& message) {
    asio::post(io_.context(), [connection = connection_, frame = detail::OutgoingFrame(message)]() mutable {
        connection->send(std::move(frame));
    });
}

void Dialled::stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
}

void Dialled::opened(Connection&) {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
}

void Dialled::heard(Connection&, Message message, std::size_t wire_bytes) {
    const std::lock_guard lock(mutex_);
    inbox_.push_back({std::move(message), wire_bytes});
    inbox_bytes_ += wire_bytes;
    changed_.notify_all();
}

bool Dialled::may_read(Connection&) {
    const std::lock_guard lock(mutex_);
    full_ = inbox_bytes_ >= kInboxBytes;
    return !full_;
}

void Dialled::ended(Connection&, Ending ending) noexcept {
    const std::lock_guard lock(mutex_);
    ending_ = std::move(ending);
    changed_.notify_all();
}

void Dialled::closed(Connection&) noexcept {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    if (!ending_)
        ending_ = {Ending::Kind::broken, "it is closed"};  // short: it takes no memory
    changed_.notify_all();
}

}  // namespace

std::unique_ptr<TcpChannel> connect_tcp(const TcpChannelOptions& options) {
    std::optional<TlsContext> tls;
    if (options.tls)
        tls.emplace(*options.tls, TlsContext::End::node);
    std::string reasons;
    for (const Address& address : detail::resolve(options.aggregator)) {
        detail::require_safe(address, tls.has_value());
        try {
            return std::make_unique<Dialled>(options, tls ? &*tls : nullptr, address);
        } catch (const IoError& error) {
            reasons += (reasons.empty() ? "" : "; ") + std::string(error.what());
        } catch (const boost::system::system_error& error) {
            throw IoError(fmt::format("cannot connect to {}: {}", to_string(options.aggregator), error.what()));
        }
    }
    throw IoError(fmt::format("cannot connect to {}: {}", to_string(options.aggregator), reasons));
}

}  // namespace dither
