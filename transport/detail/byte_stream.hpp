// A connected socket as a stream of bytes that never blocks, plain or encrypted.
#pragma once

#include <boost/asio/ip/tcp.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace dither::detail {

using Socket = boost::asio::ip::tcp::socket;

/// How a call ended that never waits.
enum class Step { done, needs_readable, needs_writable, ended };

/// One thread. Every member may throw IoError where the connection fails.
class ByteStream {
public:
    virtual ~ByteStream() = default;

    /// Until it is done. Throws FormatError, too: the other end is not who it should be.
    virtual Step handshake() = 0;
    /// done: count > 0 bytes are read. ended: the other end writes no more.
    virtual Step read(std::span<std::byte> into, std::size_t& count) = 0;
    /// done: count > 0 bytes are written, of at least one.
    virtual Step write(std::span<const std::byte> from, std::size_t& count) = 0;
    /// Tells the other end that nothing more is written; a failure is of no interest any more.
    virtual void end_writing() noexcept = 0;
    /// Bytes that the socket has taken so far.
    virtual std::uint64_t written() const = 0;
};

/// Borrows the socket.
std::unique_ptr<ByteStream> make_plain_stream(Socket& socket);

}  // namespace dither::detail
