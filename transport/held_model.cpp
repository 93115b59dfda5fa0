#include "transport/held_model.hpp"

#include "core/error.hpp"

#include <fmt/format.h>
#include <string>
#include <utility>

namespace dither {

StreamKey downlink_key(std::uint32_t seed, std::uint32_t round) {
    return {.seed = seed, .purpose = Purpose::downlink_rounding, .round = round};
}

Terms downlink_terms(std::uint32_t seed, const ModelPart& part) {
    return {.steps = part.steps, .key = downlink_key(seed, part.round)};
}

std::unique_ptr<Codec> make_whole_model_codec(const CodecPair& codecs, const Schema& schema) {
    return make_codec(codecs.downlink_of == "model" ? codecs.downlink : CodecOptions{.kind = "raw"}, schema);
}

const ModelPart* newest_change(const RoundPlan& plan) {
    const bool has_one = plan.parts.size() > (plan.base == 0 ? 1U : 0U);
    return has_one && !plan.parts.back().payload.empty() ? &plan.parts.back() : nullptr;
}

HeldModel::HeldModel(const Job& job, const Schema& schema, Initial initial)
    : schema_(schema),
      seed_(job.job.seed),
      initial_(std::move(initial)),
      whole_codec_(make_whole_model_codec(job.codec, schema)),
      change_codec_(make_codec(job.codec.downlink, schema)),
      values_(schema.parameters()) {}

void HeldModel::receive(const RoundPlan& plan) {
    if (round_ == 0 || digest_ != plan.broadcast)
        move(plan);
    note_change(plan);
    round_ = plan.round;
}

void HeldModel::move(const RoundPlan& plan) {
    const bool can_follow = plan.base <= round_ && round_ <= plan.round;
    if (plan.base > 1 && !can_follow)
        throw ModelMissing(fmt::format("round {}: the plan builds on the model of round {}, this node holds {}",
                                       plan.round, plan.base, round_));
    require(plan.base != 0 || !plan.parts.empty(), "a plan without a base needs a whole model");
    const std::uint32_t held = std::exchange(round_, 0);  // nothing, until all has gone well
    if (plan.base == 0)
        decode(*whole_codec_, plan.parts.front(), values_);
    else
        follow(plan, can_follow ? held : 0);
    digest_ = sha256(values_);
    if (digest_ == plan.broadcast)
        return;
    const std::string problem = fmt::format("round {}: the model decodes to {}, expected {}", plan.round,
                                            to_hex(digest_), to_hex(plan.broadcast));
    if (plan.base == 0)
        throw FormatError(problem);
    change_round_ = 0;  // a change of that round may come again, and be another
    throw ModelMissing(problem);
}

void HeldModel::follow(const RoundPlan& plan, std::uint32_t held) {
    if (held == 0) {
        initial_(values_);
        held = 1;
    }
    for (const ModelPart& part : plan.parts) {
        if (part.round <= held || part.payload.empty())
            continue;
        decode_change(part);
        for (std::size_t j = 0; j < values_.size(); ++j)
            values_[j] += change_[j];
    }
}

void HeldModel::decode(const Codec& codec, const ModelPart& part, std::span<float> out) const {
    codec.decode(part.payload, downlink_terms(seed_, part), out);
}

void HeldModel::decode_change(const ModelPart& part) {
    change_round_ = 0;
    change_.resize(values_.size());
    decode(*change_codec_, part, change_);
    change_round_ = part.round;
}

/// All clients of a round are told of the same change, so a worker that hosts several looks at it once.
void HeldModel::note_change(const RoundPlan& plan) {
    if (expectation_round_ == plan.round)
        return;
    expectation_round_ = 0;  // none, until all has gone well
    expectation_.reset();
    if (const ModelPart* part = newest_change(plan)) {
        if (change_round_ != part->round)
            decode_change(*part);
        expectation_.emplace(schema_, change_);
    }
    expectation_round_ = plan.round;
}

}  // namespace dither
