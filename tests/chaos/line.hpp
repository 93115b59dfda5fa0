// An attacker's connection to dither-aggregator: whatever bytes, inside TLS or not.
#pragma once

#include <utility>

#include "core/little_endian.hpp"
#include "transport/frame.hpp"
#include "transport/tcp.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dither::hostile {

using Bytes = std::vector<std::byte>;

/// Who attacks whom.
struct Setting {
    Endpoint aggregator;
    std::filesystem::path certificates;  ///< folder of NAME.crt and NAME.key
    std::string as;                      ///< NAME of the certificate that is shown; empty: none
    std::uint32_t client = 0;            ///< that it speaks for, once it is in
    std::string data;                    ///< CSV: what liars train on; others need none
    unsigned at_once = 1;                ///< connections of an attack that says nothing
};

/// Blocking; one thread. That the aggregator ends the connection is no error: what is said afterwards is lost. Prints
/// the port that the aggregator's log knows it by.
class Line {
public:
    /// Connects, without a byte said.
    explicit Line(const Setting& setting);

    void forbid_tls_1_3();
    /// Everything after it is encrypted.
    void shake_hands();
    /// The first message of a handshake, which is not sent.
    Bytes client_hello();

    void say(std::span<const std::byte> bytes);
    void say(const Message& message) { say(encode_frame(message)); }
    /// A byte a second, until the aggregator ends the connection or all are said.
    void say_slowly(std::span<const std::byte> bytes);
    /// The next message, or nothing once the aggregator has ended the connection.
    std::optional<Message> hear();
    /// Ends TLS as it should be ended, and waits until the aggregator has done so, too.
    void leave();
    /// Reads on until the aggregator ends the connection.
    void await_end();

private:
    bool read(std::span<std::byte> into);
    std::size_t read_some(std::span<std::byte> into);
    bool ends_within(std::chrono::milliseconds time);

    boost::asio::io_context context_;
    boost::asio::ssl::context tls_;
    boost::asio::ssl::stream<boost::asio::ip::tcp::socket> stream_;
    bool encrypted_ = false;
};

// Of a frame's header (transport/README.md, "A frame").
inline constexpr std::size_t kVersionAt = 4;
inline constexpr std::size_t kTypeAt = 6;
inline constexpr std::size_t kFlagsAt = 7;
inline constexpr std::size_t kLengthAt = 8;

/// Makes the checksum of a frame's header right again, or both of a whole frame's.
void seal_header(Bytes& frame);
void seal(Bytes& frame);
/// Overwrites a field of a frame's header, whose own checksum is then right.
template <typename T>
void set_header_field(Bytes& frame, std::size_t at, T value) {
    store_little(value, frame.data() + at);
    seal_header(frame);
}
/// Puts `value` wherever the frame says `mark`, and seals it: what encode_frame would not say.
void replace(Bytes& frame, float mark, float value);
/// The same bytes every time.
Bytes random_bytes(std::size_t count);

}  // namespace dither::hostile
