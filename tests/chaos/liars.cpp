#include "tests/chaos/attacks.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "tests/chaos/member.hpp"
#include "transport/codec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

namespace dither::hostile {
namespace {

/// Makes a lie of an honest update, which would be counted as it is.
using Lie = void (*)(Update& update, const Member& member);

void require_refused(const UpdateAck& verdict) {
    if (verdict.accepted)
        throw FormatError("the aggregator has accepted a lie");
}

Update work(Member& member) {
    auto update = member.work();
    if (!update)
        throw FormatError("the run is complete already");
    return std::move(*update);
}

void tell(Member& member, Update update, Lie lie) {
    lie(update, member);
    member.line().say(update);
    require_refused(member.hear_verdict());
}

template <auto kLie>
void tell(const Setting& setting) {
    Member member(setting);
    tell(member, work(member), kLie);
}

void start_elsewhere(Update& update, const Member&) {
    update.base[5] ^= 1U;
}

void leave_out_a_layer(Update& update, const Member&) {
    update.report.layers.pop_back();
}

/// The codes of a model with as many layers, of other sizes.
void send_other_shapes(Update& update, const Member& member) {
    std::vector<LayerSpec> layers;
    for (std::size_t i = 0; i < update.report.layers.size(); ++i)
        layers.push_back({.name = fmt::format("fc{}", i + 1),
                          .offset = 1000 * i,
                          .count = 1000,
                          .tensors = {{"weight", Shape{50, 20}, 1000 * i}}});
    const Schema schema(std::move(layers));
    const Job job = parse_job(member.job(), "the aggregator's job");
    const std::vector<float>& steps = member.plan().uplink_steps;
    std::vector<float> values(schema.parameters());
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<float>(i % 7) * (steps.empty() ? 1.0F : steps.front());
    make_codec(job.codec.uplink, schema)->encode(values, {.steps = steps}, update.payload);
}

void cut_payload(Update& update, const Member&) {
    update.payload.pop_back();
}

void lengthen_payload(Update& update, const Member&) {
    update.payload.insert(update.payload.end(), 1000, std::byte{0});
}

void empty_payload(Update& update, const Member&) {
    update.payload.clear();
}

/// Behind the honest form and scale.
void send_random_codes(Update& update, const Member&) {
    constexpr std::size_t kHonest = 1 + sizeof(float);
    const Bytes codes = random_bytes(update.payload.size() - kHonest);
    std::copy(codes.begin(), codes.end(), update.payload.begin() + kHonest);
}

/// In place of the first scale; for codecs that echo none, of the first value or scale.
template <float kNoNumber()>
void send_no_number(Update& update, const Member& member) {
    std::array<std::byte, sizeof(float)> scale;
    store_little(member.plan().uplink_steps.empty() ? 1.0F : member.plan().uplink_steps.front(), scale.data());
    auto& payload = update.payload;
    const auto at = std::search(payload.begin(), payload.end(), scale.begin(), scale.end());
    store_little(kNoNumber(), at == payload.end() ? payload.data() : &*at);
}

constexpr auto send_nan = send_no_number<std::numeric_limits<float>::quiet_NaN>;
constexpr auto send_infinity = send_no_number<std::numeric_limits<float>::infinity>;

void claim_no_samples(Update& update, const Member&) {
    update.report.samples = 0;
}

void claim_many_samples(Update& update, const Member&) {
    update.report.samples = std::uint64_t{1} << 40;
}

void claim_other_steps(Update& update, const Member&) {
    ++update.report.steps;
}

void answer_round_before(Update& update, const Member&) {
    --update.round;
}

void answer_next_round(Update& update, const Member&) {
    ++update.round;
}

void speak_for_another(Update& update, const Member&) {
    update.client = update.client == 0 ? 1 : 0;
}

/// The honest update is counted, once; then the very same bytes get the same answer, and others are refused.
void replay(const Setting& setting) {
    Member member(setting);
    Update update = work(member);
    for (int i = 0; i < 3; ++i) {
        member.line().say(update);
        if (const UpdateAck verdict = member.hear_verdict(); !verdict.accepted)
            throw FormatError("an honest update is refused: " + verdict.reason);
    }
    update.report.seconds += 1;
    member.line().say(update);
    require_refused(member.hear_verdict());
}

constexpr std::array kLies{start_elsewhere,  leave_out_a_layer, send_other_shapes,  cut_payload,
                           lengthen_payload, empty_payload,     send_random_codes,  send_nan,
                           send_infinity,    claim_no_samples,  claim_many_samples, claim_other_steps};

/// One lie after the other, one a round, until the run is complete.
void lie_on(const Setting& setting) {
    Member member(setting);
    std::size_t told = 0;
    while (auto update = member.work())
        tell(member, std::move(*update), kLies[told++ % kLies.size()]);
    fmt::print("lies {}\n", told);
}

constexpr std::array kAttacks{
    Attack{"other-base", "an update of another model", tell<start_elsewhere>},
    Attack{"fewer-layers", "a report that lacks a layer", tell<leave_out_a_layer>},
    Attack{"other-shapes", "codes of another model's shapes", tell<send_other_shapes>},
    Attack{"cut-payload", "a payload that lacks a byte", tell<cut_payload>},
    Attack{"long-payload", "a payload of 1000 bytes more", tell<lengthen_payload>},
    Attack{"no-payload", "no payload", tell<empty_payload>},
    Attack{"random-codes", "random codes", tell<send_random_codes>},
    Attack{"nan", "a scale or value that is NaN", tell<send_nan>},
    Attack{"infinity", "a scale or value that is infinite", tell<send_infinity>},
    Attack{"no-samples", "no samples", tell<claim_no_samples>},
    Attack{"many-samples", "2^40 samples", tell<claim_many_samples>},
    Attack{"other-steps", "more steps than its samples take", tell<claim_other_steps>},
    Attack{"stale-round", "an update of the round before", tell<answer_round_before>},
    Attack{"early-round", "an update of the next round", tell<answer_next_round>},
    Attack{"other-client", "an update of another client", tell<speak_for_another>},
    Attack{"replay", "an honest update three times, then another one", replay},
    Attack{"lies", "one lie a round until the run is complete", lie_on},
};

}  // namespace

std::span<const Attack> attacks_of_liars() {
    return kAttacks;
}

}  // namespace dither::hostile
