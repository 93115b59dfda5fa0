#include "tests/chaos/attacks.hpp"

#include "core/little_endian.hpp"
#include "tests/chaos/member.hpp"

#include <algorithm>
#include <array>
#include <limits>

namespace dither::hostile {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Bytes some_frame() {
    return encode_frame(Update{.round = 1});
}

/// The header's field is overwritten and the header's checksum made right.
template <typename T>
Bytes frame_with(std::size_t at, T value) {
    Bytes frame = some_frame();
    set_header_field(frame, at, value);
    return frame;
}

Bytes frame_changed_at(std::size_t at) {
    Bytes frame = some_frame();
    frame[at] ^= std::byte{1};
    return frame;
}

/// Well-formed but for one number.
Bytes report_with(float bad, float& (*number)(TrainingReport& report)) {
    constexpr float kMark = 12345.678F;
    Update update{.round = 1};
    update.report.layers.resize(1);
    number(update.report) = kMark;
    Bytes frame = encode_frame(update);
    replace(frame, kMark, bad);
    return frame;
}

float& loss(TrainingReport& report) {
    return report.train_loss;
}

float& grad_norm(TrainingReport& report) {
    return report.layers[0].grad_norm;
}

/// A report that claims 2^32 - 1 layers and brings none.
Bytes report_of_many_layers() {
    Bytes frame = some_frame();
    Update longer{.round = 1};
    longer.report.layers.resize(1);
    const Bytes other = encode_frame(longer);
    const auto count = std::mismatch(frame.begin() + kFrameHeaderBytes, frame.end(), other.begin() + kFrameHeaderBytes);
    store_little(std::numeric_limits<std::uint32_t>::max(), &*count.first);
    seal(frame);
    return frame;
}

template <typename Said>
void say(const Setting& setting, const Said& said) {
    Member member(setting);
    member.line().say(said);
    member.line().await_end();
}

void say_half(const Setting& setting) {
    Bytes frame = some_frame();
    frame.resize(frame.size() / 2);
    Member member(setting);
    member.line().say(frame);
    member.line().leave();
    member.line().await_end();
}

void say_slowly(const Setting& setting, std::size_t at_once) {
    const Bytes frame = some_frame();
    Member member(setting);
    member.line().say(std::span(frame).first(at_once));
    member.line().say_slowly(std::span(frame).subspan(at_once));
}

void say_hello_again(const Setting& setting) {
    say(setting, Hello{.node = setting.as, .client = setting.client});
}

/// Hubs keep heartbeats to themselves; the verdict on what follows says that all were read.
void beat_fast(const Setting& setting) {
    constexpr unsigned kBursts = 64;
    const Bytes beat = encode_frame(Heartbeat{});
    Bytes burst;
    for (unsigned i = 0; i < 4096; ++i)
        burst.insert(burst.end(), beat.begin(), beat.end());
    Member member(setting);
    for (unsigned i = 0; i < kBursts; ++i)
        member.line().say(burst);
    member.line().say(Update{.client = setting.client});
    member.hear_verdict();
}

constexpr std::array kAttacks{
    Attack{"random-frame", "random bytes inside TLS", [](const Setting& s) { say(s, random_bytes(512)); }},
    Attack{"huge-length", "a body of 2^60 bytes",
           [](const Setting& s) { say(s, frame_with(kLengthAt, std::uint64_t{1} << 60)); }},
    Attack{"half-frame", "half a frame, then leaves", say_half},
    Attack{"header-crc", "a header whose checksum is wrong",
           [](const Setting& s) { say(s, frame_changed_at(kLengthAt)); }},
    Attack{"body-crc", "a body whose checksum is wrong",
           [](const Setting& s) { say(s, frame_changed_at(kFrameHeaderBytes)); }},
    Attack{"version", "another protocol version",
           [](const Setting& s) { say(s, frame_with<std::uint16_t>(kVersionAt, kProtocolVersion + 1)); }},
    Attack{"type", "a message of no known type",
           [](const Setting& s) { say(s, frame_with(kTypeAt, std::uint8_t{42})); }},
    Attack{"flags", "unknown flags", [](const Setting& s) { say(s, frame_with(kFlagsAt, std::uint8_t{1})); }},
    Attack{"direction", "a RoundPlan", [](const Setting& s) { say(s, RoundPlan{.round = 1, .base = 1}); }},
    Attack{"hello-twice", "a second Hello", say_hello_again},
    Attack{"slow-header", "a header, a byte a second", [](const Setting& s) { say_slowly(s, 1); }},
    Attack{"slow-body", "a body, a byte a second", [](const Setting& s) { say_slowly(s, kFrameHeaderBytes); }},
    Attack{"nan-loss", "a loss that is NaN", [](const Setting& s) { say(s, report_with(kNan, loss)); }},
    Attack{"nan-statistic", "a statistic that is NaN", [](const Setting& s) { say(s, report_with(kNan, grad_norm)); }},
    Attack{"infinite-statistic", "a statistic that is infinite",
           [](const Setting& s) { say(s, report_with(kInfinity, grad_norm)); }},
    Attack{"many-layers", "a report of 2^32 - 1 layers in 100 bytes",
           [](const Setting& s) { say(s, report_of_many_layers()); }},
    Attack{"duplicate", "connects as a node that is in already", [](const Setting& s) { Member{s}.line().leave(); }},
    Attack{"heartbeats", "262,144 heartbeats as fast as it can", beat_fast},
};

}  // namespace

std::span<const Attack> attacks_of_members() {
    return kAttacks;
}

}  // namespace dither::hostile
