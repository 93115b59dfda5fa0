#include "transport/detail/connection.hpp"

#include "core/error.hpp"

#include <boost/asio/post.hpp>

#include <algorithm>
#include <new>
#include <utility>

namespace dither::detail {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using std::chrono::duration;
using std::chrono::milliseconds;

/// What one connection may read, or write, before the others have their turn.
constexpr std::size_t kTurnBytes = std::size_t{256} << 10;
/// What a call counts at least, so that a turn ends whatever the size of the pieces.
constexpr std::size_t kLeastBytes = kTurnBytes / 64;

double seconds(Clock::duration time) {
    return duration<double>(time).count();
}

}  // namespace

Connection::Connection(Socket socket, const StreamMaker& make_stream, Shared& shared)
    : socket_(std::move(socket)), shared_(shared), stream_(make_stream(socket_)) {}

void Connection::start() {
    error_code ignored;
    socket_.non_blocking(true, ignored);
    socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    expect("a handshake");
    continue_later();
}

void Connection::expect(const char* what) {
    expected_ = what;
    expected_until_ = Clock::now() + shared_.limits.handshake;
}

void Connection::send(OutgoingFrame frame) {
    if (phase_ != Phase::handshake && phase_ != Phase::open)
        return;
    guard([&] { enqueue(std::move(frame)); });
    if (!awaits_writable_)
        advance();
}

void Connection::enqueue(OutgoingFrame frame) {
    if (queued_bytes_ > shared_.limits.queue_bytes)
        throw FormatError(fmt::format("{} bytes wait for it: it does not read", queued_bytes_));
    if (queue_.empty())
        last_said_ = Clock::now();
    queue_.push_back(std::move(frame));
    queued_bytes_ += queue_.back().size();
}

double Connection::queued_memory() const {
    double memory = 0;
    for (const OutgoingFrame& frame : queue_) {
        memory += static_cast<double>(frame.own_bytes());
        for (const SharedPiece& piece : frame.shared())
            memory += static_cast<double>(piece.bytes.size()) / static_cast<double>(piece.bytes.copies());
    }
    return memory;
}

std::size_t Connection::largest_queued() const {
    std::size_t largest = 0;
    for (const OutgoingFrame& frame : queue_)
        largest = std::max(largest, frame.size());
    return largest;
}

void Connection::finish() {
    if (phase_ == Phase::handshake)
        return close();
    if (phase_ != Phase::open)
        return;
    begin_closing();
}

void Connection::end(Ending ending) {
    if (phase_ == Phase::closed)
        return;
    if (phase_ == Phase::closing)
        return close();
    begin_closing();
    queue_.clear();
    const Ending::Kind kind = ending.kind;
    shared_.owner.ended(*this, std::move(ending));
    if (kind != Ending::Kind::refused)
        close();
}

/// The socket stays open until the other end has let go, too: closed at once, with bytes unread, it would take back
/// what the other end has not read yet.
void Connection::begin_closing() {
    count_written();
    phase_ = Phase::closing;
    expected_ = nullptr;
    closing_until_ = Clock::now() + shared_.limits.linger;
    continue_later();
}

void Connection::close() {
    if (std::exchange(phase_, Phase::closed) == Phase::closed)
        return;
    count_written();
    queue_.clear();  // nobody gets it any more, and it counts as waiting
    error_code ignored;
    socket_.close(ignored);
    shared_.owner.closed(*this);
}

template <typename Work>
void Connection::guard(Work work) {
    const auto self = shared_from_this();  // the owner may let go of it
    try {
        try {
            work();
        } catch (const FormatError& error) {
            end({Ending::Kind::refused, error.what()});
        } catch (const std::bad_alloc&) {
            throw;
        } catch (const std::exception& error) {
            end({Ending::Kind::broken, error.what()});
        }
    } catch (const std::bad_alloc&) {
        end({Ending::Kind::broken, kNoMemory});
    }
}

void Connection::advance() {
    if (phase_ == Phase::closed)
        return;
    guard([this] { step(); });
}

void Connection::step() {
    if (phase_ == Phase::handshake && !shake_hands())
        return;
    if (phase_ == Phase::open)
        read_available();
    write_queued();
    if (phase_ == Phase::closing)
        close_if_delivered();
    count_written();
}

void Connection::count_written() {
    const std::uint64_t written = stream_->written();
    const std::uint64_t more = written - std::exchange(counted_, written);
    if (more > 0 && shared_.traffic.written)
        shared_.traffic.written(more);
}

bool Connection::shake_hands() {
    const Step step = stream_->handshake();
    count_written();
    if (!done(step))
        return false;
    phase_ = Phase::open;
    expected_ = nullptr;
    last_heard_ = last_said_ = Clock::now();
    shared_.owner.opened(*this);
    return true;
}

void Connection::read_available() {
    for (std::size_t turn = 0; phase_ == Phase::open;) {
        if (!shared_.owner.may_read(*this))
            return pause(Clock::now());
        unpause(Clock::now());
        std::size_t count = 0;
        const Step read = stream_->read(shared_.scratch, count);
        if (read == Step::ended)
            return end(parser_.between_frames() ? Ending{Ending::Kind::left, "the peer has left"}
                                                : Ending{Ending::Kind::refused, "it left in the middle of a frame"});
        if (!done(read))
            return;
        take(shared_.scratch.first(count));
        turn += std::max(count, kLeastBytes);
        if (turn >= kTurnBytes)
            return continue_later();
    }
}

void Connection::take(std::span<const std::byte> bytes) {
    shared_.traffic.in += bytes.size();
    last_heard_ = Clock::now();
    while (!bytes.empty() && phase_ == Phase::open) {
        const bool began = parser_.between_frames();
        const bool was_in_body = parser_.in_body();
        auto message = parser_.take(bytes, {.body_bytes = body_bytes_, .layers = layers_});
        if (began || parser_.in_body() != was_in_body)
            frame_began_ = last_heard_;
        if (message && !std::holds_alternative<Heartbeat>(*message))
            shared_.owner.heard(*this, std::move(*message), parser_.wire_bytes());
    }
}

void Connection::write_queued() {
    for (std::size_t turn = 0; !queue_.empty() && phase_ != Phase::closed;) {
        if (turn >= kTurnBytes)
            return continue_later();
        const OutgoingFrame& frame = queue_.front();
        std::size_t count = 0;
        if (!done(stream_->write(frame.from(written_), count)))
            return;
        turn += std::max(count, kLeastBytes);
        last_said_ = Clock::now();
        shared_.traffic.out += count;
        queued_bytes_ -= count;
        written_ += count;
        if (written_ < frame.size())
            continue;
        queue_.pop_front();
        written_ = 0;
    }
}

void Connection::close_if_delivered() {
    if (queue_.empty() && !std::exchange(said_all_, true))
        stream_->end_writing();
    discard_available();
}

/// Past the stream: nobody needs to know what it was.
void Connection::discard_available() {
    error_code error;
    for (std::size_t turn = 0; turn < kTurnBytes;) {
        turn += socket_.read_some(asio::buffer(shared_.scratch.data(), shared_.scratch.size()), error);
        if (error == asio::error::would_block)
            return wait(Socket::wait_read, awaits_readable_);
        if (error)
            return close();
    }
    continue_later();
}

void Connection::pause(Clock::time_point now) {
    if (!std::exchange(paused_, true))
        paused_at_ = now;
}

/// The time in which it was not read does not count.
void Connection::unpause(Clock::time_point now) {
    if (!std::exchange(paused_, false))
        return;
    frame_began_ += now - paused_at_;
    last_heard_ = now;
}

void Connection::check(Clock::time_point now) {
    guard([&] {
        if (phase_ == Phase::closing && now >= closing_until_)
            close();
        if (given_up_)
            return end({Ending::Kind::broken, kNoMemory});
        if (std::exchange(stalled_, false))
            advance();
        if (expected_ != nullptr && now >= expected_until_)
            throw FormatError(fmt::format("{} did not come within {} s", expected_, seconds(shared_.limits.handshake)));
        if (phase_ == Phase::open) {
            check_open(now);
            beat(now);
        }
    });
}

void Connection::check_open(Clock::time_point now) const {
    const ConnectionLimits& limits = shared_.limits;
    if (!paused_ && !parser_.between_frames())
        check_frame(now);
    if (!paused_ && now - last_heard_ >= limits.dead)
        throw IoError(fmt::format("it was silent for {} s", seconds(limits.dead)));
    if (shared_.must_read && !queue_.empty() && now - last_said_ >= limits.dead)
        throw FormatError(fmt::format("it has not read for {} s", seconds(limits.dead)));
}

void Connection::check_frame(Clock::time_point now) const {
    const ConnectionLimits& limits = shared_.limits;
    const Clock::duration elapsed = now - frame_began_;
    if (elapsed < limits.header)
        return;
    if (!parser_.in_body())
        throw FormatError(fmt::format("a frame's header took more than {} s", seconds(limits.header)));
    if (static_cast<double>(parser_.body_bytes()) < static_cast<double>(limits.body_rate) * seconds(elapsed))
        throw FormatError(fmt::format("{} bytes of a body in {:.0f} s are fewer than {} a second", parser_.body_bytes(),
                                      seconds(elapsed), limits.body_rate));
}

void Connection::beat(Clock::time_point now) {
    if (queue_.empty() && now - last_said_ >= shared_.limits.heartbeat)
        send(OutgoingFrame(Heartbeat{}));
}

bool Connection::done(Step step) {
    if (step == Step::needs_readable)
        wait(Socket::wait_read, awaits_readable_);
    else if (step == Step::needs_writable)
        wait(Socket::wait_write, awaits_writable_);
    else if (step == Step::ended)
        throw IoError("the connection was closed");
    return step == Step::done;
}

template <typename Start>
void Connection::arrange(bool& arranged, Start start) {
    if (std::exchange(arranged, true))
        return;
    try {
        start();
    } catch (const std::exception&) {
        arranged = false;
        stalled_ = true;
    }
}

void Connection::wait(WaitType type, bool& waiting) {
    arrange(waiting, [&] {
        socket_.async_wait(type, [self = shared_from_this(), &waiting](const error_code&) {
            waiting = false;
            self->advance();
        });
    });
}

void Connection::continue_later() {
    arrange(continues_, [this] {
        asio::post(socket_.get_executor(), [self = shared_from_this()] {
            self->continues_ = false;
            self->advance();
        });
    });
}

}  // namespace dither::detail
