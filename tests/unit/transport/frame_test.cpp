#include "transport/frame.hpp"

#include "core/error.hpp"
#include "transport/codec.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>
#include <boost/crc.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>
#include <string>

namespace {

using namespace dither;
using Bytes = std::vector<std::byte>;

const FrameLimits kLimits = FrameLimits::for_node();

std::uint32_t crc32c(std::span<const std::byte> bytes) {
    boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
    crc.process_bytes(bytes.data(), bytes.size());
    return crc.checksum();
}

template <typename T>
void append(Bytes& bytes, T value) {
    bytes.resize(bytes.size() + sizeof(T));
    std::memcpy(bytes.data() + bytes.size() - sizeof(T), &value, sizeof(T));
}

/// A frame around any body, with checksums that hold: what an enemy can send.
Bytes framed(std::uint8_t type, const Bytes& body) {
    Bytes frame;
    for (const char c : std::string("DTHR"))
        append(frame, c);
    append(frame, kProtocolVersion);
    append(frame, type);
    append(frame, std::uint8_t{0});
    append(frame, std::uint64_t{body.size()});
    append(frame, crc32c(body));
    append(frame, crc32c(frame));
    frame.resize(kFrameHeaderBytes + body.size());
    std::copy(body.begin(), body.end(), frame.begin() + kFrameHeaderBytes);
    return frame;
}

Bytes body_of(const Message& message) {
    const Bytes frame = encode_frame(message);
    return {frame.begin() + kFrameHeaderBytes, frame.end()};
}

Sha256 digest_from(unsigned char first) {
    Sha256 digest;
    for (std::size_t i = 0; i < digest.size(); ++i)
        digest[i] = static_cast<unsigned char>(first + i);
    return digest;
}

const Bytes kPayload{std::byte{0xde}, std::byte{0xad}, std::byte{0xbe}, std::byte{0xef}, std::byte{0}};

LayerStatistics measured_layer() {
    return {.grad_norm = 0.5F,
            .signal_norm = 0.25F,
            .theta_norm = 12.0F,
            .curvature = 3.5F,
            .curvature_norm = 40.0F,
            .curvature_trace = 6.5F,
            .lipschitz = 1.75F,
            .forward_sensitivity = 0.75F,
            .backward_sensitivity = 0.875F,
            .step_gain = 1,
            .backward_error = 0.0625F,
            .update_range = 0.001953125F,
            .update_rms = 0.000244140625F,
            .saturation = 0.015625F,
            .forward_error = 0.03125F,
            .underflow = 0.125F,
            .update_nmse = 0.5625F};
}

RoundPlan example_plan() {
    RoundPlan task{.round = 3, .client = 41, .counted = 2, .base = 1, .uplink_steps = {0.001953125F, 0.25F}};
    task.plan.layers = {{.forward = 8, .backward = 16, .optimizer = 32, .uplink = 4, .downlink = 8},
                        {.forward = 4, .backward = 8, .optimizer = 2, .uplink = 3, .downlink = 16}};
    task.probe = Probe::curvature_norm | Probe::sensitivity;
    task.broadcast = digest_from(1);
    task.parts = {{.round = 2},
                  {.round = 3,
                   .steps = {0.015625F, 1},
                   .payload = kPayload,
                   .control = ControlStep{.keep = 0.875F, .gain = -0.75F}}};
    return task;
}

RoundPlan example_whole_model() {
    RoundPlan task = example_plan();
    task.counted = task.base = 0;
    task.control = Bytes(kPayload.begin(), kPayload.begin() + 3);
    task.parts = {{.round = 3, .payload = kPayload}};
    return task;
}

Update example_update(const HeldOutScore& score) {
    Update update{.round = 3, .client = 41, .base = digest_from(1), .payload = kPayload};
    const LayerStatistics second{.grad_norm = 1.5F, .theta_norm = 2, .update_range = 0, .update_rms = 0};
    update.report = {.samples = 600,
                     .steps = 19,
                     .train_loss = 2.25F,
                     .seconds = 1.5F,
                     .probe_seconds = 0.0078125F,
                     .update_nmse = 0.3125F,
                     .held_out = score,
                     .layers = {measured_layer(), second}};
    return update;
}

/// With what held-out samples say.
Update example_update() {
    return example_update(
        {.samples = 60, .loss = 2.5F, .accuracy = 0.125F, .personal_loss = 1.75F, .personal_accuracy = 0.375F});
}

Hello example_hello() {
    return {.node = "edge-07_a",
            .client = 7,
            .device = {.widths = {4, 8, 32}, .memory = std::uint64_t{3} << 32, .speed = 250.5F}};
}

constexpr std::size_t kControlAt = 75;  // in example_plan(): behind round to base, bits, steps, probe and digest
constexpr std::size_t kPartsAt = kControlAt + 8;      // behind the length of no control variate
constexpr std::size_t kSecondPartAt = kPartsAt + 21;  // behind their count and a part that changes nothing

struct Golden {
    std::string file;
    Message message;
};

std::vector<Golden> golden_frames() {
    return {{"hello", example_hello()},
            {"welcome", Welcome{.job = "[job]\nname = \"golden\"\n", .client = 7}},
            {"round_plan", example_plan()},
            {"whole_model", example_whole_model()},
            {"update", example_update()},
            {"update_unscored", example_update({})},
            {"failed", Failed{.round = 3, .client = 41, .diverged = true, .reason = "loss is nan", .base = 2}},
            {"update_ack", UpdateAck{.round = 3, .client = 41, .accepted = false, .reason = "late"}},
            {"round_committed", RoundCommitted{.round = 3, .client = 41, .model = digest_from(200)}},
            {"stop", Stop{.reason = "done"}},
            {"heartbeat", Heartbeat{}}};
}

std::string golden_folder(int version) {
    return fmt::format("{}/v{}", DITHER_GOLDEN_DIR, version);
}

Bytes read_hex(const std::string& name, int version = kProtocolVersion) {
    std::ifstream file(fmt::format("{}/{}.hex", golden_folder(version), name));
    REQUIRE_MESSAGE(file.is_open(), name);
    Bytes bytes;
    for (std::string line; std::getline(file, line);)
        for (std::size_t i = 0; i + 1 < line.size(); i += 2)
            bytes.push_back(static_cast<std::byte>(std::stoi(line.substr(i, 2), nullptr, 16)));
    return bytes;
}

/// True if the frame decodes or is refused as a peer's fault; anything else escapes and fails the test.
bool decodes_or_is_refused(const Bytes& frame) {
    try {
        (void)decode_frame(frame, kLimits);
    } catch (const FormatError&) {
    }
    return true;
}

// Random messages.

std::string random_text(std::string_view alphabet, int shortest, int longest) {
    std::string text(static_cast<std::size_t>(*rc::gen::inRange(shortest, longest + 1)), ' ');
    for (char& c : text)
        c = alphabet[*rc::gen::inRange<std::size_t>(0, alphabet.size())];
    return text;
}

std::string random_reason() {
    return random_text(" loss is NaN, 0x7f: {~}", 0, 40);
}

Bytes random_payload() {
    Bytes bytes;
    for (const auto byte : *rc::gen::arbitrary<std::vector<std::uint8_t>>())
        bytes.push_back(static_cast<std::byte>(byte));
    return bytes;
}

Sha256 random_digest() {
    return digest_from(*rc::gen::arbitrary<unsigned char>());
}

float random_positive() {
    return static_cast<float>(*rc::gen::inRange(1, 1 << 24)) * 0x1p-30F;
}

float random_share() {
    return static_cast<float>(*rc::gen::inRange(0, (1 << 24) + 1)) * 0x1p-24F;
}

std::uint32_t word() {
    return *rc::gen::arbitrary<std::uint32_t>();
}

ModelPart random_part(std::uint32_t round, std::size_t layers) {
    ModelPart part{.round = round, .payload = random_payload()};
    const bool grid = *rc::gen::arbitrary<bool>();
    for (std::size_t i = 0; grid && i < layers; ++i)
        part.steps.push_back(random_positive());
    if (part.payload.size() > 0 && *rc::gen::arbitrary<bool>())
        part.control = {.keep = random_share(), .gain = -random_positive()};
    return part;
}

RoundPlan random_plan() {
    RoundPlan task{.round = word(), .client = word(), .counted = word()};
    task.plan.layers.resize(*rc::gen::inRange<std::size_t>(0, 9));
    for (LayerBits& bits : task.plan.layers)
        for (const Phase phase : kPhases)
            bits[phase] = *rc::gen::oneOf(rc::gen::inRange(2, 17), rc::gen::just(kFullBits));
    for (std::size_t i = 0; i < task.plan.layers.size(); ++i)
        task.uplink_steps.push_back(random_positive());
    task.probe = static_cast<Probe>(*rc::gen::inRange(0, kAllProbes + 1));
    task.broadcast = random_digest();
    const auto parts = *rc::gen::inRange<std::uint32_t>(0, 4);
    task.base = parts < task.round ? task.round - parts : 0;
    if (task.base == 0) {
        task.control = random_payload();
        task.parts.push_back(random_part(task.round, task.plan.layers.size()));
    }
    for (std::uint32_t round = task.base + 1; task.base > 0 && round <= task.round && round != 0; ++round)
        task.parts.push_back(random_part(round, task.plan.layers.size()));
    return task;
}

Update random_update() {
    Update update{.round = word(), .client = word(), .base = random_digest(), .payload = random_payload()};
    update.report = {.samples = *rc::gen::arbitrary<std::uint64_t>(),
                     .steps = word(),
                     .train_loss = -random_positive(),
                     .seconds = random_positive(),
                     .probe_seconds = random_positive(),
                     .update_nmse = *rc::gen::arbitrary<bool>() ? random_positive() : kNotMeasured};
    if (*rc::gen::arbitrary<bool>())
        update.report.held_out = {.samples = 1 + std::uint64_t{word()},
                                  .loss = random_positive(),
                                  .accuracy = random_share(),
                                  .personal_loss = -random_positive(),
                                  .personal_accuracy = random_share()};
    update.report.layers.resize(*rc::gen::inRange<std::size_t>(0, 9));
    for (LayerStatistics& layer : update.report.layers)
        for_each_statistic(layer, [](std::string_view, float& value, Combine) {
            const bool measured = *rc::gen::arbitrary<bool>();
            value = measured ? random_positive() : kNotMeasured;
        });
    return update;
}

Hello random_hello() {
    Hello hello{.node = random_text("abcxyz0189_-", 1, 64), .client = word()};
    for (int width = 2; width <= 16; ++width)
        if (*rc::gen::arbitrary<bool>())
            hello.device.widths.push_back(width);
    if (*rc::gen::arbitrary<bool>())
        hello.device.widths.push_back(kFullBits);
    hello.device.memory = *rc::gen::arbitrary<std::uint64_t>();
    hello.device.speed = random_positive();
    return hello;
}

Message random_message(std::size_t type) {
    const bool flag = *rc::gen::arbitrary<bool>();
    switch (type) {
        case 0:
            return random_hello();
        case 1:
            return Welcome{random_text("[job]\n\"= \t#", 0, 500), word() / 2};
        case 2:
            return random_plan();
        case 3:
            return random_update();
        case 4:
            return Failed{word(), word(), flag, *rc::gen::arbitrary<bool>(), random_reason(), word()};
        case 5:
            return UpdateAck{word(), word(), flag, random_reason()};
        case 6:
            return RoundCommitted{word(), word(), random_digest()};
        case 7:
            return Stop{random_reason()};
        default:
            return Heartbeat{};
    }
}

Message any_message() {
    return random_message(*rc::gen::inRange<std::size_t>(0, std::variant_size_v<Message>));
}

}  // namespace

TEST_SUITE("transport/frame") {
    TEST_CASE("every message arrives as it was sent") {
        for (std::size_t type = 0; type < std::variant_size_v<Message>; ++type)
            CHECK(rc::check([type] {
                const Message message = random_message(type);
                RC_ASSERT(message.index() == type);
                return decode_frame(encode_frame(message), kLimits) == message;
            }));
    }

    TEST_CASE("the golden frames of protocol version 7 decode, and encode to the same bytes") {
        std::set<std::size_t> types;
        for (const auto& [file, message] : golden_frames())
            types.insert(message.index());
        REQUIRE(types.size() == std::variant_size_v<Message>);
        for (const auto& [file, message] : golden_frames()) {
            CAPTURE(file);
            const Bytes golden = read_hex(file);
            CHECK(decode_frame(golden, kLimits) == message);
            CHECK(encode_frame(message) == golden);
        }
    }

    TEST_CASE("a frame of an earlier protocol version is refused with both numbers") {
        for (const int version : {1, 2, 3, 4, 5, 6})
            for (const auto& entry : std::filesystem::directory_iterator(golden_folder(version)))
                CHECK_THROWS_WITH_AS(
                    decode_frame(read_hex(entry.path().stem().string(), version), kLimits),
                    doctest::Contains(fmt::format("protocol version 7 is spoken here, not {}", version).c_str()),
                    FormatError);
    }

    TEST_CASE("every truncation of a frame is refused, and every byte too many") {
        for (const auto& [file, message] : golden_frames()) {
            CAPTURE(file);
            Bytes frame = encode_frame(message);
            for (std::size_t size = 0; size < frame.size(); ++size)
                CHECK_THROWS_AS(
                    decode_frame(Bytes(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(size)), kLimits),
                    FormatError);
            frame.push_back(std::byte{0});
            CHECK_THROWS_AS(decode_frame(frame, kLimits), FormatError);
        }
    }

    TEST_CASE("every truncation of a body is refused even when its checksums hold, and every byte too many") {
        for (const auto& [file, message] : golden_frames()) {
            CAPTURE(file);
            const auto type = static_cast<std::uint8_t>(message.index() + 1);
            Bytes body = body_of(message);
            body.push_back(std::byte{0});
            CHECK_THROWS_AS(decode_frame(framed(type, body), kLimits), FormatError);
            body.pop_back();
            REQUIRE(decode_frame(framed(type, body), kLimits) == message);
            while (!body.empty()) {
                body.pop_back();
                CHECK_THROWS_AS(decode_frame(framed(type, body), kLimits), FormatError);
            }
        }
    }

    TEST_CASE("every flipped bit of a frame is noticed") {
        for (const auto& [file, message] : golden_frames()) {
            CAPTURE(file);
            Bytes frame = encode_frame(message);
            for (std::size_t bit = 0; bit < 8 * frame.size(); ++bit) {
                const auto flip = std::byte{1} << (bit % 8);
                frame[bit / 8] ^= flip;
                CHECK_THROWS_AS(decode_frame(frame, kLimits), FormatError);
                frame[bit / 8] ^= flip;
            }
        }
    }

    TEST_CASE("a body of random bytes with right checksums decodes or is refused, and nothing else happens") {
        CHECK(rc::check([] {
            const Message message = any_message();
            Bytes body = body_of(message);
            const auto mutations = *rc::gen::inRange(0, 6);
            for (int i = 0; i < mutations && !body.empty(); ++i)
                body[*rc::gen::inRange<std::size_t>(0, body.size())] = std::byte(*rc::gen::arbitrary<std::uint8_t>());
            return decodes_or_is_refused(framed(static_cast<std::uint8_t>(*rc::gen::inRange(1, 9)), body));
        }));
    }

    TEST_CASE("a count that the bytes cannot hold is refused before memory is spent on it") {
        const FrameLimits boundless{.body_bytes = 1 << 20, .layers = std::numeric_limits<std::uint32_t>::max()};
        for (const std::uint32_t count : {6U, 4096U, 0x7fffffffU, 0xffffffffU}) {
            Bytes plan(16 + 4 + 25, std::byte{8});  // 0xffffffff layers of bits alone would be 80 GiB
            std::memcpy(plan.data() + 16, &count, sizeof(count));
            CHECK_THROWS_WITH_AS(decode_frame(framed(3, plan), boundless),
                                 "RoundPlan: plan has more entries than bytes", FormatError);
            Bytes parts = body_of(example_plan());
            std::memcpy(parts.data() + kPartsAt, &count, sizeof(count));
            CHECK_THROWS_WITH_AS(decode_frame(framed(3, parts), boundless),
                                 "RoundPlan: parts has more entries than bytes", FormatError);
            Bytes text(4 + 5, std::byte{'a'});
            std::memcpy(text.data(), &count, sizeof(count));
            CHECK_THROWS_AS(decode_frame(framed(2, text), boundless), FormatError);
            CHECK_THROWS_AS(decode_frame(framed(8, text), boundless), FormatError);
        }
        Bytes update = body_of(Update{});
        const std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();
        std::memcpy(update.data() + update.size() - sizeof(huge), &huge, sizeof(huge));
        CHECK_THROWS_WITH_AS(decode_frame(framed(4, update), boundless), "Update: payload is cut off", FormatError);
    }

    TEST_CASE("an unknown type, another version, flags and foreign bytes are refused") {
        CHECK_THROWS_WITH_AS(decode_frame(framed(0, {}), kLimits), "message type 0 is unknown", FormatError);
        CHECK_THROWS_WITH_AS(decode_frame(framed(10, {}), kLimits), "message type 10 is unknown", FormatError);
        Bytes frame = encode_frame(Stop{});
        frame[4] = std::byte{8};
        CHECK_THROWS_WITH_AS(decode_frame(frame, kLimits), "protocol version 7 is spoken here, not 8", FormatError);
        frame[0] = std::byte{'H'};
        CHECK_THROWS_WITH_AS(decode_frame(frame, kLimits), "a frame begins with \"DTHR\"", FormatError);
    }

    TEST_CASE("a frame over the limit is refused by its header alone") {
        Update update;
        update.payload.resize(100);
        const Bytes frame = encode_frame(update);
        const std::uint64_t body = frame.size() - kFrameHeaderBytes;
        const auto header = std::span(frame).first(kFrameHeaderBytes);
        CHECK(decode_header(header, {.body_bytes = body, .layers = 0}).body_bytes == body);
        CHECK_THROWS_AS(decode_header(header, {.body_bytes = body - 1, .layers = 0}), FormatError);
    }

    TEST_CASE("more layers than the model has are refused") {
        const Bytes frame = encode_frame(example_update());
        CHECK_NOTHROW(decode_frame(frame, FrameLimits{.layers = 2}));
        CHECK_THROWS_WITH_AS(decode_frame(frame, FrameLimits{.layers = 1}), "Update: statistics has too many layers",
                             FormatError);
    }

    TEST_CASE("the limits of a model hold its largest update and plan") {
        constexpr std::size_t kParameters = 1000;
        constexpr std::size_t kLayers = 2000;
        constexpr std::size_t kLargestPayload = 4 * kParameters + 64 * kLayers;
        const FrameLimits limits = FrameLimits::for_model(kParameters, kLayers);
        Update update;
        update.report.layers.resize(kLayers);
        update.payload.resize(kLargestPayload);
        CHECK_NOTHROW(decode_frame(encode_frame(update), limits));
        RoundPlan task{.plan = PrecisionPlan::uniform(kLayers, 8)};
        task.uplink_steps.resize(kLayers, 1);
        task.parts = {{.steps = std::vector<float>(kLayers, 1), .payload = Bytes(kLargestPayload)}};
        CHECK_NOTHROW(decode_frame(encode_frame(task), limits));
    }

    TEST_CASE("a node hears a whole model of 2^30 parameters with its control variate and a change") {
        constexpr std::uint64_t kModel = std::uint64_t{4} << 30;
        const auto header = [](std::uint64_t bytes) { return encode_header({.type = 3, .body_bytes = bytes}); };
        CHECK_NOTHROW(decode_header(header(3 * kModel + 64 * 4096), kLimits));
        CHECK_THROWS_AS(decode_header(header(4 * kModel), kLimits), FormatError);
    }

    TEST_CASE("values that no honest peer sends are refused with the field's name") {
        const auto refused = [](const Message& valid, std::size_t at, auto value, const char* what) {
            Bytes body = body_of(valid);
            std::memcpy(body.data() + at, &value, sizeof(value));
            CHECK_THROWS_WITH_AS(decode_frame(framed(static_cast<std::uint8_t>(valid.index() + 1), body), kLimits),
                                 what, FormatError);
        };
        const float nan = std::numeric_limits<float>::quiet_NaN();
        const float inf = std::numeric_limits<float>::infinity();
        const Message hello = Hello{.node = "a"};
        refused(hello, 4, 'A', "Hello: node does not match [a-z0-9_-]{1,64}");
        refused(hello, 4, '/', "Hello: node does not match [a-z0-9_-]{1,64}");
        const Message device = example_hello();  // its widths begin at 18
        refused(device, 17, std::uint8_t{17}, "Hello: widths are too many");
        refused(device, 17, std::uint8_t{255}, "Hello: widths are too many");
        for (const std::uint8_t width : std::initializer_list<std::uint8_t>{0, 1, 17, 31, 33, 255})
            refused(device, 18, width, "Hello: widths has bits outside 2..16 and 32");
        for (const std::uint8_t width : std::initializer_list<std::uint8_t>{8, 16, 32})  // before an 8
            refused(device, 18, width, "Hello: widths do not ascend");
        for (const float speed : {nan, inf, -1.0F})
            refused(device, 29, speed, "Hello: speed is not a finite number of at least 0");
        const Message plan = example_plan();
        for (const std::uint8_t bits : std::initializer_list<std::uint8_t>{0, 1, 17, 31, 33, 255})
            refused(plan, 20, bits, "RoundPlan: plan has bits outside 2..16 and 32");
        for (const float step : {0.0F, -1.0F, nan, inf, std::nextafter(kLargestGridStep, inf)})
            refused(plan, 34, step, "RoundPlan: uplink_steps is outside (0, 2^96]");
        for (const std::uint8_t probe : std::initializer_list<std::uint8_t>{kAllProbes + 1, 255})
            refused(plan, 42, probe, "RoundPlan: probe is unknown");
        for (const std::uint32_t base : {0U, 2U, 4U, 0xffffffffU})
            refused(plan, 12, base, "RoundPlan: parts are not those of the rounds after its base");
        for (const std::uint32_t round : {0U, 1U, 3U})
            refused(plan, kPartsAt + 4, round, "RoundPlan: parts are not those of the rounds after its base");
        const Message whole = example_whole_model();
        refused(whole, kPartsAt + 3 + 4, 2U, "RoundPlan: parts are not those of the rounds after its base");
        refused(whole, 12, 2U, "RoundPlan: control is there with changes");
        refused(plan, kPartsAt + 12, std::uint8_t{2}, "RoundPlan: control is neither 0 nor 1");
        for (const float keep : {nan, inf, -0.5F, 1.5F})
            refused(plan, kSecondPartAt + 17, keep, "RoundPlan: keep is outside 0..1");
        for (const float gain : {nan, inf})
            refused(plan, kSecondPartAt + 21, gain, "RoundPlan: gain is not finite");
        const Message update = example_update();
        refused(update, 52, nan, "Update: train_loss is not finite");
        for (const float seconds : {nan, inf, -1.0F}) {
            refused(update, 56, seconds, "Update: seconds is not a finite number of at least 0");
            refused(update, 60, seconds, "Update: probe_seconds is not a finite number of at least 0");
        }
        refused(update, 64, nan, "Update: update_nmse is not finite");
        for (const float nmse : {-0.5F, -2.0F})
            refused(update, 64, nmse, "Update: update_nmse is negative");
        refused(update, 76, nan, "Update: loss is not finite");
        refused(update, 84, inf, "Update: personal_loss is not finite");
        for (const float share : {nan, inf, -0.25F, 1.25F}) {
            refused(update, 80, share, "Update: accuracy is outside 0..1");
            refused(update, 88, share, "Update: personal_accuracy is outside 0..1");
        }
        refused(update, 96, -0.5F, "Update: grad_norm is negative");
        refused(update, 96, inf, "Update: grad_norm is not finite");
        refused(update, 116, nan, "Update: curvature_trace is not finite");
        refused(update, 124, -0.25F, "Update: forward_sensitivity is negative");
        refused(update, 132, inf, "Update: step_gain is not finite");
        refused(update, 152, nan, "Update: forward_error is not finite");
        refused(update, 160, inf, "Update: update_nmse is not finite");
        refused(update, 160, -0.25F, "Update: update_nmse is negative");
        const Message failed = Failed{.reason = "x"};
        refused(failed, 8, std::uint8_t{2}, "Failed: diverged is neither 0 nor 1");
        refused(failed, 9, std::uint8_t{2}, "Failed: needs_model is neither 0 nor 1");
        refused(failed, 14, '\x1b', "Failed: reason is not printable ASCII");
    }

    TEST_CASE("a message that every peer would refuse cannot be sent") {
        CHECK_THROWS_AS(encode_frame(Hello{.node = ""}), PreconditionError);
        CHECK_THROWS_AS(encode_frame(Hello{.node = std::string(65, 'a')}), PreconditionError);
        CHECK_THROWS_AS(encode_frame(Hello{.node = "a", .device = {.widths = {8, 8}}}), PreconditionError);
        CHECK_THROWS_AS(encode_frame(Hello{.node = "a", .device = {.widths = {1}}}), PreconditionError);
        CHECK_THROWS_AS(encode_frame(Hello{.node = "a", .device = {.widths = std::vector<int>(17, 8)}}),
                        PreconditionError);
        CHECK_THROWS_AS(encode_frame(Hello{.node = "a", .device = {.speed = -1}}), PreconditionError);
        CHECK_THROWS_AS(encode_frame(Welcome{.job = std::string((1 << 20) + 1, ' ')}), PreconditionError);
        CHECK_NOTHROW(encode_frame(Welcome{.job = std::string(1 << 20, ' ')}));
        Update update;
        update.report.train_loss = std::numeric_limits<float>::quiet_NaN();
        CHECK_THROWS_AS(encode_frame(update), PreconditionError);
        RoundPlan task = example_plan();
        task.plan.layers[0].uplink = 264;
        CHECK_THROWS_AS(encode_frame(task), PreconditionError);
        task = example_plan();
        task.uplink_steps.pop_back();
        CHECK_THROWS_AS(encode_frame(task), PreconditionError);
        task = example_plan();
        task.parts.pop_back();
        CHECK_THROWS_AS(encode_frame(task), PreconditionError);
        task = example_plan();
        task.parts[0].control.emplace();
        CHECK_THROWS_WITH_AS(encode_frame(task), "RoundPlan: control moves without a change", PreconditionError);
        task = example_plan();
        task.control = kPayload;
        CHECK_THROWS_AS(encode_frame(task), PreconditionError);
    }

    TEST_CASE("a reason is cut and cleaned by its sender, so that no error message costs the connection") {
        const Message sent = Stop{.reason = "line\nnext \xc3\xa9" + std::string(5000, 'z')};
        const Message received = decode_frame(encode_frame(sent), kLimits);
        CHECK(std::get<Stop>(received).reason == "line?next ??" + std::string(1024 - 12, 'z'));
    }
}
