#include "core/error.hpp"
#include "transport/detail/byte_stream.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>

namespace dither::detail {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

Step step_of(const error_code& error, Step when_blocked) {
    if (!error)
        return Step::done;
    if (error == asio::error::would_block || error == asio::error::try_again)
        return when_blocked;
    if (error == asio::error::eof)
        return Step::ended;
    throw IoError(error.message());
}

class PlainStream final : public ByteStream {
public:
    explicit PlainStream(Socket& socket) : socket_(socket) {}

    Step handshake() override { return Step::done; }

    Step read(std::span<std::byte> into, std::size_t& count) override {
        error_code error;
        count = socket_.read_some(asio::buffer(into.data(), into.size()), error);
        return step_of(error, Step::needs_readable);
    }

    Step write(std::span<const std::byte> from, std::size_t& count) override {
        error_code error;
        count = socket_.write_some(asio::buffer(from.data(), from.size()), error);
        written_ += count;
        return step_of(error, Step::needs_writable);
    }

    void end_writing() noexcept override {
        error_code ignored;
        socket_.shutdown(Socket::shutdown_send, ignored);
    }

    std::uint64_t written() const override { return written_; }

private:
    Socket& socket_;
    std::uint64_t written_ = 0;
};

}  // namespace

std::unique_ptr<ByteStream> make_plain_stream(Socket& socket) {
    return std::make_unique<PlainStream>(socket);
}

}  // namespace dither::detail
