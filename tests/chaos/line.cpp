#include "tests/chaos/line.hpp"

#include "core/little_endian.hpp"
#include "core/rng.hpp"
#include "transport/detail/crc32c.hpp"

#include <boost/asio/connect.hpp>
#include <boost/asio/write.hpp>

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>

namespace dither::hostile {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

// Of a frame's header (transport/README.md, "A frame").
constexpr std::size_t kBodyCrcAt = 16;
constexpr std::size_t kHeaderCrcAt = 20;

asio::ssl::context context_of(const Setting& setting) {
    asio::ssl::context context(asio::ssl::context::tls_client);
    if (!setting.as.empty()) {
        const std::string file = (setting.certificates / setting.as).string();
        context.use_certificate_chain_file(file + ".crt");
        context.use_private_key_file(file + ".key", asio::ssl::context::pem);
    }
    return context;
}

}  // namespace

Line::Line(const Setting& setting) : tls_(context_of(setting)), stream_(context_, tls_) {
    auto& socket = stream_.next_layer();
    socket.connect({asio::ip::make_address(setting.aggregator.host), setting.aggregator.port});
    socket.set_option(asio::ip::tcp::no_delay(true));
    fmt::print("port {}\n", socket.local_endpoint().port());
}

void Line::forbid_tls_1_3() {
    SSL_set_max_proto_version(stream_.native_handle(), TLS1_2_VERSION);
}

void Line::shake_hands() {
    error_code refused;
    stream_.handshake(asio::ssl::stream_base::client, refused);
    encrypted_ = true;
}

Bytes Line::client_hello() {
    const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(SSL_get_SSL_CTX(stream_.native_handle())), SSL_free);
    BIO* const said = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), said);
    SSL_connect(ssl.get());
    const char* bytes = nullptr;
    const auto count = static_cast<std::size_t>(BIO_get_mem_data(said, &bytes));
    const auto all = std::as_bytes(std::span(bytes, count));
    return {all.begin(), all.end()};
}

void Line::say(std::span<const std::byte> bytes) {
    const asio::const_buffer buffer(bytes.data(), bytes.size());
    error_code ended;
    if (encrypted_)
        asio::write(stream_, buffer, ended);
    else
        asio::write(stream_.next_layer(), buffer, ended);
}

void Line::say_slowly(std::span<const std::byte> bytes) {
    for (const std::byte& byte : bytes) {
        say(std::span(&byte, 1));
        if (ends_within(std::chrono::seconds(1)))
            return;
    }
}

std::optional<Message> Line::hear() {
    Bytes frame(kFrameHeaderBytes);
    const FrameLimits limits = FrameLimits::for_node();
    if (!read(frame))
        return std::nullopt;
    frame.resize(kFrameHeaderBytes + decode_header(frame, limits).body_bytes);
    if (!read(std::span(frame).subspan(kFrameHeaderBytes)))
        return std::nullopt;
    return decode_frame(std::move(frame), limits);
}

void Line::leave() {
    error_code ended;
    stream_.shutdown(ended);
}

void Line::await_end() {
    std::array<std::byte, 4096> ignored;
    while (read_some(ignored) > 0) {
    }
}

bool Line::read(std::span<std::byte> into) {
    while (!into.empty()) {
        const std::size_t count = read_some(into);
        if (count == 0)
            return false;
        into = into.subspan(count);
    }
    return true;
}

/// 0: the aggregator has ended the connection.
std::size_t Line::read_some(std::span<std::byte> into) {
    const asio::mutable_buffer buffer(into.data(), into.size());
    error_code ended;
    return encrypted_ ? stream_.read_some(buffer, ended) : stream_.next_layer().read_some(buffer, ended);
}

bool Line::ends_within(std::chrono::milliseconds time) {
    const auto until = std::chrono::steady_clock::now() + time;
    std::array<std::byte, 4096> ignored;
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
        pollfd waiting{.fd = stream_.next_layer().native_handle(), .events = POLLIN, .revents = 0};
        if (::poll(&waiting, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0))) <= 0)
            return false;
        if (read_some(ignored) == 0)
            return true;
    }
}

void seal(Bytes& frame) {
    store_little(detail::crc32c(std::span(frame).subspan(kFrameHeaderBytes)), frame.data() + kBodyCrcAt);
    seal_header(frame);
}

void seal_header(Bytes& frame) {
    store_little(detail::crc32c(std::span(frame).first(kHeaderCrcAt)), frame.data() + kHeaderCrcAt);
}

void replace(Bytes& frame, float mark, float value) {
    std::array<std::byte, sizeof mark> marked, replacement;
    store_little(mark, marked.data());
    store_little(value, replacement.data());
    for (auto at = frame.begin(); (at = std::search(at, frame.end(), marked.begin(), marked.end())) != frame.end();)
        std::copy(replacement.begin(), replacement.end(), at);
    seal(frame);
}

Bytes random_bytes(std::size_t count) {
    Stream stream(StreamKey{.seed = 1});
    Bytes bytes(count);
    std::generate(bytes.begin(), bytes.end(), [&] { return static_cast<std::byte>(stream()); });
    return bytes;
}

}  // namespace dither::hostile
