#include "transport/messages.hpp"

#include "core/error.hpp"
#include "transport/codec.hpp"
#include "transport/detail/body.hpp"
#include "transport/detail/bounded_archive.hpp"
#include "transport/node_id.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

namespace dither {
namespace {

using detail::BoundedReader;
using detail::BoundedWriter;
using detail::Either;

constexpr std::size_t kMaxJobBytes = std::size_t{1} << 20;
constexpr std::size_t kMaxReasonBytes = std::size_t{1} << 10;
constexpr std::size_t kLeastPartBytes =
    4 + 4 + 1 + 8;  // round, number of steps, whether a control step follows, payload's length
constexpr std::size_t kControlBytes = 2 * sizeof(float);
constexpr std::size_t kLayerBitsBytes = kPhases.size();
constexpr std::size_t kStatisticsBytes = sizeof(LayerStatistics);  // floats, each as it is

bool is_printable(char c) {
    return c >= ' ' && c <= '~';
}

/// Reasons end in logs and on terminals: printable ASCII only, and not too much of it. The sender mends its own texts,
/// so that a long or foreign error message never costs it the connection.
std::string printable(std::string_view reason) {
    std::string text(reason.substr(0, kMaxReasonBytes));
    std::replace_if(
        text.begin(), text.end(), [](char c) { return !is_printable(c); }, '?');
    return text;
}

void serialize_reason(auto& archive, Either<std::string> auto& reason) {
    if constexpr (std::remove_reference_t<decltype(archive)>::kReads) {
        archive.text("reason", reason, kMaxReasonBytes);
        archive.expect(std::all_of(reason.begin(), reason.end(), is_printable), "reason", "is not printable ASCII");
    } else {
        archive.text("reason", printable(reason), kMaxReasonBytes);
    }
}

void serialize_steps(auto& archive, std::string_view name, Either<std::vector<float>> auto& steps, std::size_t layers) {
    archive.per_layer(name, steps, sizeof(float), [&](auto& step) {
        archive(name, step);
        archive.expect(step > 0 && step <= kLargestGridStep, name, "is outside (0, 2^96]");
    });
    archive.expect(steps.empty() || steps.size() == layers, name, "has not one entry a layer of the plan");
}

bool is_width(int bits) {
    return (bits >= 2 && bits <= 16) || bits == kFullBits;
}

void serialize(auto& archive, Either<LayerBits> auto& bits) {
    for (const Phase phase : kPhases) {
        auto&& width = bits[phase];
        archive.template as<std::uint8_t>("plan", width);
        archive.expect(is_width(width), "plan", "has bits outside 2..16 and 32");
    }
}

void serialize(auto& archive, Either<PrecisionPlan> auto& plan) {
    archive.per_layer("plan", plan.layers, kLayerBitsBytes, [&](auto& bits) { serialize(archive, bits); });
}

/// Finite and at least 0.
void serialize_amount(auto& archive, std::string_view name, Either<float> auto& amount) {
    archive(name, amount);
    archive.expect(std::isfinite(amount) && amount >= 0, name, "is not a finite number of at least 0");
}

void serialize(auto& archive, Either<Device> auto& device) {
    archive.few("widths", device.widths, kMostWidths, [&](auto& width) {
        archive.template as<std::uint8_t>("widths", width);
        archive.expect(is_width(width), "widths", "has bits outside 2..16 and 32");
    });
    const bool ascending = std::ranges::adjacent_find(device.widths, std::greater_equal()) == device.widths.end();
    archive.expect(ascending, "widths", "do not ascend");
    archive("memory", device.memory);
    serialize_amount(archive, "speed", device.speed);
}

void serialize_statistic(auto& archive, std::string_view name, Either<float> auto& value) {
    archive(name, value);
    archive.expect(std::isfinite(value), name, "is not finite");
    archive.expect(value >= 0 || value == kNotMeasured, name, "is negative");
}

void serialize(auto& archive, Either<LayerStatistics> auto& statistics) {
    for_each_statistic(statistics,
                       [&](std::string_view name, auto& value, Combine) { serialize_statistic(archive, name, value); });
}

/// 0..1.
void serialize_share(auto& archive, std::string_view name, Either<float> auto& share) {
    archive(name, share);
    archive.expect(share >= 0 && share <= 1, name, "is outside 0..1");
}

void serialize_finite(auto& archive, std::string_view name, Either<float> auto& value) {
    archive(name, value);
    archive.expect(std::isfinite(value), name, "is not finite");
}

void serialize(auto& archive, Either<HeldOutScore> auto& score) {
    archive("held_out", score.samples);
    if (score.samples == 0)
        return;
    serialize_finite(archive, "loss", score.loss);
    serialize_share(archive, "accuracy", score.accuracy);
    serialize_finite(archive, "personal_loss", score.personal_loss);
    serialize_share(archive, "personal_accuracy", score.personal_accuracy);
}

void serialize(auto& archive, Either<TrainingReport> auto& report) {
    archive("samples", report.samples);
    archive("steps", report.steps);
    serialize_finite(archive, "train_loss", report.train_loss);
    serialize_amount(archive, "seconds", report.seconds);
    serialize_amount(archive, "probe_seconds", report.probe_seconds);
    serialize_statistic(archive, "update_nmse", report.update_nmse);
    serialize(archive, report.held_out);
    archive.per_layer("statistics", report.layers, kStatisticsBytes, [&](auto& layer) { serialize(archive, layer); });
}

void serialize(auto& archive, Either<Hello> auto& hello) {
    archive.text("node", hello.node, kMaxNodeIdBytes);
    archive.expect(is_node_id(hello.node), "node", "does not match [a-z0-9_-]{1,64}");
    archive("client", hello.client);
    serialize(archive, hello.device);
}

void serialize(auto& archive, Either<Welcome> auto& welcome) {
    archive.text("job", welcome.job, kMaxJobBytes);
    archive("client", welcome.client);
    archive.expect(welcome.client != kAssignedClient, "client", "is not decided");
}

void serialize(auto& archive, Either<std::optional<ControlStep>> auto& control) {
    bool moves = control.has_value();
    archive("control", moves);
    if (!moves)
        return;
    if constexpr (std::remove_reference_t<decltype(archive)>::kReads)
        control.emplace();
    serialize_share(archive, "keep", control->keep);
    serialize_finite(archive, "gain", control->gain);
}

void serialize(auto& archive, Either<ModelPart> auto& part, std::size_t layers) {
    archive("part", part.round);
    serialize_steps(archive, "part", part.steps, layers);
    serialize(archive, part.control);
    archive.payload("part", part.payload);
    archive.expect(!part.control || part.payload.size() > 0, "control", "moves without a change");
}

/// base + 1 .. round; or, without a base, one or two of the round itself.
bool in_order(const RoundPlan& task) {
    if (task.base == 0)
        return (task.parts.size() == 1 || task.parts.size() == 2) &&
               std::ranges::all_of(task.parts, [&](const ModelPart& part) { return part.round == task.round; });
    if (task.base > task.round || task.parts.size() != task.round - task.base)
        return false;
    for (std::uint32_t i = 0; i < task.parts.size(); ++i)
        if (task.parts[i].round != task.base + 1 + i)
            return false;
    return true;
}

void serialize(auto& archive, Either<RoundPlan> auto& task) {
    archive("round", task.round);
    archive("client", task.client);
    archive("counted", task.counted);
    archive("base", task.base);
    serialize(archive, task.plan);
    serialize_steps(archive, "uplink_steps", task.uplink_steps, task.plan.layers.size());
    archive.template as<std::uint8_t>("probe", task.probe);
    archive.expect(static_cast<std::uint8_t>(task.probe) <= kAllProbes, "probe", "is unknown");
    archive("broadcast", task.broadcast);
    archive.payload("control", task.control);
    archive.expect(task.base == 0 || task.control.size() == 0, "control", "is there with changes");
    archive.list("parts", task.parts, kLeastPartBytes,
                 [&](auto& part) { serialize(archive, part, task.plan.layers.size()); });
    archive.expect(in_order(task), "parts", "are not those of the rounds after its base");
}

void serialize(auto& archive, Either<Update> auto& update) {
    archive("round", update.round);
    archive("client", update.client);
    archive("base", update.base);
    serialize(archive, update.report);
    archive.payload("payload", update.payload);
}

void serialize(auto& archive, Either<Failed> auto& failed) {
    archive("round", failed.round);
    archive("client", failed.client);
    archive("diverged", failed.diverged);
    archive("needs_model", failed.needs_model);
    serialize_reason(archive, failed.reason);
    archive("base", failed.base);
}

void serialize(auto& archive, Either<UpdateAck> auto& ack) {
    archive("round", ack.round);
    archive("client", ack.client);
    archive("accepted", ack.accepted);
    serialize_reason(archive, ack.reason);
}

void serialize(auto& archive, Either<RoundCommitted> auto& committed) {
    archive("round", committed.round);
    archive("client", committed.client);
    archive("model", committed.model);
}

void serialize(auto& archive, Either<Stop> auto& stop) {
    serialize_reason(archive, stop.reason);
}

void serialize(auto&, Either<Heartbeat> auto&) {}

/// The empty message of a type on the wire.
template <std::size_t Index = 0>
Message empty_message(std::uint8_t type) {
    if constexpr (Index == detail::kMessageTypes)
        throw FormatError(fmt::format("message type {} is unknown", type));
    else
        return type == Index + 1 ? Message(std::in_place_index<Index>) : empty_message<Index + 1>(type);
}

}  // namespace

std::size_t ModelPart::wire_bytes() const {
    return kLeastPartBytes + sizeof(float) * steps.size() + (control ? kControlBytes : 0) + payload.size();
}

std::string_view name_of(const Message& message) {
    constexpr std::array<std::string_view, detail::kMessageTypes> kNames{
        "Hello", "Welcome", "RoundPlan", "Update", "Failed", "UpdateAck", "RoundCommitted", "Stop", "Heartbeat"};
    return kNames[message.index()];
}

void detail::write_body(const Message& message, std::vector<std::byte>& out) {
    BoundedWriter writer(name_of(message), out);
    std::visit([&](const auto& content) { serialize(writer, content); }, message);
}

void detail::write_body(const Message& message, std::vector<std::byte>& out, std::vector<SharedPiece>& shared) {
    BoundedWriter writer(name_of(message), out, &shared);
    std::visit([&](const auto& content) { serialize(writer, content); }, message);
}

Message detail::read_body(std::uint8_t type, std::vector<std::byte> body, std::uint32_t max_layers) {
    Message message = empty_message(type);
    BoundedReader reader(name_of(message), body, max_layers);
    std::visit([&](auto& content) { serialize(reader, content); }, message);
    reader.finish();
    return message;
}

}  // namespace dither
