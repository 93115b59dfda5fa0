#include "tests/chaos/attacks.hpp"

#include <array>
#include <deque>

namespace dither::hostile {
namespace {

Hello hello_of(const Setting& setting) {
    return {.node = setting.as.empty() ? "nobody" : setting.as, .client = setting.client};
}

Bytes bytes_of(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

template <typename Said>
void say_outside_tls(const Setting& setting, const Said& said) {
    Line line(setting);
    line.say(said);
    line.await_end();
}

template <typename Said>
void say_first(const Setting& setting, const Said& said) {
    Line line(setting);
    line.shake_hands();
    line.say(said);
    line.await_end();
}

void say_nothing(const Setting& setting) {
    std::deque<Line> lines;
    for (unsigned i = 0; i < setting.at_once; ++i)
        lines.emplace_back(setting);
    for (Line& line : lines)
        line.await_end();
}

void stop_after_client_hello(const Setting& setting) {
    Line line(setting);
    line.say(line.client_hello());
    line.await_end();
}

void shake_hands_slowly(const Setting& setting) {
    Line line(setting);
    line.say_slowly(line.client_hello());
}

void speak_old_tls(const Setting& setting) {
    Line line(setting);
    line.forbid_tls_1_3();
    line.shake_hands();
    line.await_end();
}

void leave_early(const Setting& setting) {
    Line line(setting);
    line.shake_hands();
    line.leave();
    line.await_end();
}

void call_itself_otherwise(const Setting& setting) {
    Hello hello = hello_of(setting);
    hello.node += "-2";
    say_first(setting, hello);
}

/// One byte more than anybody may say before it is in; only the header comes.
void say_large_hello(const Setting& setting) {
    Bytes frame = encode_frame(hello_of(setting));
    frame.resize(kFrameHeaderBytes);
    set_header_field(frame, kLengthAt, FrameLimits{}.body_bytes + 1);
    say_first(setting, frame);
}

constexpr std::array kAttacks{
    Attack{"random-bytes", "random bytes", [](const Setting& s) { say_outside_tls(s, random_bytes(512)); }},
    Attack{"plaintext", "a Hello in plaintext", [](const Setting& s) { say_outside_tls(s, hello_of(s)); }},
    Attack{"http", "HTTP", [](const Setting& s) { say_outside_tls(s, bytes_of("GET / HTTP/1.0\r\n\r\n")); }},
    Attack{"silence", "nothing, on so many connections at once as --at-once says", say_nothing},
    Attack{"client-hello", "the first message of TLS and no more", stop_after_client_hello},
    Attack{"slow-handshake", "the first message of TLS, a byte a second", shake_hands_slowly},
    Attack{"old-tls", "TLS 1.2", speak_old_tls},
    Attack{"hello", "Hello, with whatever certificate it has", [](const Setting& s) { say_first(s, hello_of(s)); }},
    Attack{"no-hello", "nothing after the handshake", [](const Setting& s) { say_first(s, Bytes{}); }},
    Attack{"early-leave", "leaves after the handshake", leave_early},
    Attack{"other-name", "a Hello of another name than the certificate's", call_itself_otherwise},
    Attack{"update-first", "an Update before Hello", [](const Setting& s) { say_first(s, Update{.round = 1}); }},
    Attack{"large-hello", "a Hello of 64 KiB and a byte", say_large_hello},
};

}  // namespace

std::span<const Attack> attacks_of_strangers() {
    return kAttacks;
}

}  // namespace dither::hostile
