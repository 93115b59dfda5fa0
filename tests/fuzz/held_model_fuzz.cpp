// Plans behind a byte that chooses the downlink's codec, as a node follows them: malformed ones and payloads are
// refused, and what a plan leads to is the same model however often it comes.
#include "core/config.hpp"
#include "core/error.hpp"
#include "core/optim/local_progress.hpp"
#include "tests/fuzz/target.hpp"
#include "transport/detail/body.hpp"
#include "transport/held_model.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>

namespace dither::fuzz {
namespace {

constexpr std::uint8_t kRoundPlanType = 3;
constexpr std::uint32_t kMostLayers = 16;

struct Downlink {
    const char* kind;
    const char* of;
    const char* strategy = "fedavg";
};
constexpr std::array kDownlinks{Downlink{"grid", "delta"}, Downlink{"trellis", "delta"}, Downlink{"topk", "delta"},
                                Downlink{"grid", "model"}, Downlink{"grid", "delta", "scaffold"}};

const Schema& schema() {
    static const Schema schema({{.name = "fc1", .count = 300, .tensors = {{"weight", Shape{20, 15}, 0}}},
                                {.name = "fc2", .offset = 300, .count = 5, .tensors = {{"weight", Shape{5}, 300}}}});
    return schema;
}

Job job_of(const Downlink& downlink) {
    Job job;
    job.codec.downlink.kind = downlink.kind;
    job.codec.downlink_of = downlink.of;
    job.federation.strategy.kind = downlink.strategy;
    return job;
}

void initialize(std::span<float> values) {
    Stream({.seed = 1}).fill_normal(values);
}

/// What it holds then; nothing where the plan asks for another base or promises another model.
std::optional<Sha256> receive(HeldModel& held, const RoundPlan& plan) {
    try {
        held.receive(plan);
    } catch (const ModelMissing&) {
        return std::nullopt;
    }
    return broadcast_digest(held.values(), held.control());
}

void follow(const Job& job, RoundPlan plan) {
    HeldModel held(job, schema(), initialize);
    try {
        receive(held, plan);
    } catch (const FormatError&) {
    }
    plan.broadcast =
        broadcast_digest(held.values(), held.control());  // a hostile aggregator promises what its plan leads to
    HeldModel again(job, schema(), initialize);
    const auto first = receive(again, plan);
    require(!first || (*first == plan.broadcast && receive(again, plan) == first), "a plan leads to two models");
}

ModelPart part_of(const Codec& codec, std::uint32_t round, float scale, std::optional<ControlStep> control = {}) {
    ModelPart part{.round = round, .steps = {0.01F, 0.01F}, .control = control};
    std::vector<float> values(schema().parameters());
    Stream({.seed = 2, .round = round}).fill_normal(values);
    std::ranges::transform(values, values.begin(), [&](float value) { return scale * value; });
    Bytes payload;
    codec.encode(values, downlink_terms(1, part), payload);
    part.payload = std::move(payload);
    return part;
}

Bytes seed_of(std::size_t downlink, RoundPlan plan) {
    plan.plan = PrecisionPlan::uniform(schema().layer_count(), 8);
    Bytes body;
    detail::write_body(plan, body);
    return with_choice(downlink, body);
}

}  // namespace

std::vector<Bytes> seeds() {
    std::vector<Bytes> seeds;
    for (std::size_t i = 0; i < kDownlinks.size(); ++i) {
        const CodecPair codecs = job_of(kDownlinks[i]).codec;
        const auto codec = make_codec(codecs.downlink, schema());
        const auto whole_codec = make_whole_model_codec(codecs, schema());
        const ModelPart whole = part_of(*whole_codec, 3, 1);
        std::optional<ControlStep> step;
        SharedBytes control;
        if (corrects_steps(job_of(kDownlinks[i]).federation.strategy)) {
            step = {.keep = 0.9F, .gain = -2};
            control = part_of(*whole_codec, 2, 0.5F).payload;
        }
        const auto change = [&](std::uint32_t round) { return part_of(*codec, round, 0.1F, step); };
        seeds.push_back(seed_of(i, {.round = 1, .base = 1}));
        seeds.push_back(seed_of(i, {.round = 3, .control = control, .parts = {whole}}));
        seeds.push_back(seed_of(i, {.round = 3, .control = control, .parts = {whole, change(3)}}));
        seeds.push_back(seed_of(i, {.round = 3, .base = 1, .parts = {change(2), change(3)}}));
    }
    return seeds;
}

void run(std::span<const std::byte> bytes) {
    const auto [downlink, body] = split_choice(bytes, kDownlinks.size());
    try {
        const Message plan = detail::read_body(kRoundPlanType, {body.begin(), body.end()}, kMostLayers);
        follow(job_of(kDownlinks[downlink]), std::get<RoundPlan>(plan));
    } catch (const FormatError&) {
    }
}

}  // namespace dither::fuzz
