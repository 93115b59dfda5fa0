// One connection: frames both ways over a byte stream, with everything that keeps the other end honest. README.md: 'TCP
// and TLS'.
#pragma once

#include "transport/detail/byte_stream.hpp"
#include "transport/detail/frame_parser.hpp"
#include "transport/detail/outgoing_frame.hpp"
#include "transport/hub.hpp"
#include "transport/tcp.hpp"

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace dither::detail {

/// Of all connections of one owner.
struct Traffic {
    std::atomic<std::uint64_t> in{0};  ///< bytes of frames
    std::atomic<std::uint64_t> out{0};
    std::function<void(std::uint64_t bytes)> written;  ///< told of what sockets have taken, TLS included; may be empty
};

/// Why a connection is over.
struct Ending {
    enum class Kind {
        left,     ///< the other end has left, between frames
        broken,   ///< the network failed, or the other end is silent
        refused,  ///< it did what it may not
    };
    Kind kind = Kind::left;
    std::string reason;
};

class Connection;

/// Where there is no memory for a better one: so short that it takes none.
inline constexpr const char* kNoMemory = "out of memory";

/// Called on the I/O thread, never after its connections are gone.
class ConnectionOwner {
public:
    virtual void opened(Connection& connection) = 0;
    /// A frame that is no heartbeat. A FormatError that it throws refuses the other end.
    virtual void heard(Connection& connection, Message message, std::size_t wire_bytes) = 0;
    /// Whether more may be read now. If not, resume() is called when that may have changed.
    virtual bool may_read(Connection& connection) = 0;
    /// Once, unless finish() came first: it is not heard again.
    virtual void ended(Connection& connection, Ending ending) noexcept = 0;
    /// Once, last: the socket is closed.
    virtual void closed(Connection& connection) noexcept = 0;

protected:
    ~ConnectionOwner() = default;
};

/// Lives on its owner's I/O thread. Kept alive by the owner and by operations under way; after closed() it does
/// nothing any more. Its members throw nothing: whatever fails ends the connection, and a lack of memory for going on
/// is made good by the next check().
class Connection final : public std::enable_shared_from_this<Connection> {
public:
    /// What its owner has for all its connections; all of it outlives them.
    struct Shared {
        ConnectionOwner& owner;
        const ConnectionLimits& limits;
        Traffic& traffic;
        std::span<std::byte> scratch;  ///< for what is read, one call at a time
        bool must_read = false;        ///< the other end is lost, too, if it takes nothing for limits.dead
    };
    using StreamMaker = std::function<std::unique_ptr<ByteStream>(Socket&)>;

    Connection(Socket socket, const StreamMaker& make_stream, Shared& shared);

    void start();
    void send(OutgoingFrame frame);
    /// Nothing of it is heard from now on. What is queued is delivered, within limits.linger, then the socket closes.
    void finish();
    void resume() { advance(); }
    /// Any thread: counts at once.
    void admit(const FrameLimits& limits) {
        layers_ = limits.layers;
        body_bytes_ = limits.body_bytes;
        admitted_ = true;
    }
    bool admitted() const { return admitted_; }
    /// It is not heard any more.
    bool is_over() const { return phase_ == Phase::closing || phase_ == Phase::closed; }
    /// Any thread: there is no memory to tell it anything. The next check() ends it.
    void give_up() { given_up_ = true; }
    /// `what` must come, and come_true() be called, within limits.handshake.
    void expect(const char* what);
    void came_true() { expected_ = nullptr; }
    /// Ends the connection for its owner's reasons.
    void end(Ending ending);
    /// To be called about as often as limits are to be precise.
    void check(Clock::time_point now);

    /// Memory that a frame takes which has not ended.
    std::size_t partial_bytes() const { return parser_.body_bytes(); }
    /// Memory that what waits for the other end takes: its share of what others hold, too.
    double queued_memory() const;
    /// Of frames that wait.
    std::size_t largest_queued() const;

private:
    enum class Phase { handshake, open, closing, closed };
    using WaitType = Socket::wait_type;

    /// Whatever goes wrong in `work` ends the connection, and goes no further.
    template <typename Work>
    void guard(Work work);
    void advance();
    void step();
    void enqueue(OutgoingFrame frame);
    bool shake_hands();
    void write_queued();
    void read_available();
    void discard_available();
    void take(std::span<const std::byte> bytes);
    void begin_closing();
    void close();
    void close_if_delivered();
    void count_written();
    void check_open(Clock::time_point now) const;
    void check_frame(Clock::time_point now) const;
    void beat(Clock::time_point now);
    void pause(Clock::time_point now);
    void unpause(Clock::time_point now);
    /// Waits for what `step` needs; true if the step is done.
    bool done(Step step);
    void wait(WaitType type, bool& waiting);
    /// Sets `arranged` and calls `start`, unless that is so already.
    template <typename Start>
    void arrange(bool& arranged, Start start);
    /// Once all other connections have had their turn.
    void continue_later();

    Socket socket_;
    Shared& shared_;
    std::unique_ptr<ByteStream> stream_;
    Phase phase_ = Phase::handshake;
    std::atomic<std::uint64_t> body_bytes_{FrameLimits{}.body_bytes};
    std::atomic<std::uint32_t> layers_{FrameLimits{}.layers};
    std::atomic<bool> admitted_{false};
    std::atomic<bool> given_up_{false};
    FrameParser parser_;
    std::deque<OutgoingFrame> queue_;
    std::size_t queued_bytes_ = 0;
    std::size_t written_ = 0;    ///< of the first frame in the queue
    std::uint64_t counted_ = 0;  ///< of stream_->written()
    bool awaits_readable_ = false;
    bool awaits_writable_ = false;
    bool continues_ = false;  ///< advance() is posted
    bool paused_ = false;     ///< by the owner
    bool said_all_ = false;   ///< end_writing() was called
    bool stalled_ = false;    ///< what would make it go on could not be arranged
    const char* expected_ = nullptr;
    Clock::time_point expected_until_;
    Clock::time_point last_heard_;
    Clock::time_point last_said_;    ///< or: the queue was empty
    Clock::time_point frame_began_;  ///< of the frame that is being received: its header, then its body
    Clock::time_point paused_at_;
    Clock::time_point closing_until_;
};

}  // namespace dither::detail
