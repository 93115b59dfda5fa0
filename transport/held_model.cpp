#include "transport/held_model.hpp"

#include "core/error.hpp"
#include "core/optim/local_progress.hpp"
#include "core/simd.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <string>
#include <utility>

namespace dither {

namespace {

DITHER_CLONES void blend(float* control, float keep, const float* change, float gain, std::size_t count) {
#pragma GCC ivdep
    for (std::size_t j = 0; j < count; ++j)
        control[j] = keep * control[j] + gain * change[j];
}

}  // namespace

Sha256 broadcast_digest(std::span<const float> model, std::span<const float> control) {
    Sha256Stream digest;
    digest.add(std::as_bytes(model));
    digest.add(std::as_bytes(control));
    return digest.finish();
}

void move_control(const Schema& schema, const ControlStep& step, std::span<const float> change,
                  std::span<float> control) {
    require(change.size() == control.size(), "a change of {} values for a control variate of {}", change.size(),
            control.size());
    for (const LayerSpec& layer : schema.layers())
        blend(control.data() + layer.offset, step.keep, change.data() + layer.offset, step.gain, layer.trained_count());
}

StreamKey downlink_key(std::uint32_t seed, std::uint32_t round) {
    return {.seed = seed, .purpose = Purpose::downlink_rounding, .round = round};
}

Terms downlink_terms(std::uint32_t seed, const ModelPart& part) {
    return {.steps = part.steps, .key = downlink_key(seed, part.round)};
}

std::unique_ptr<Codec> make_whole_model_codec(const CodecPair& codecs, const Schema& schema, const Makers& makers) {
    return makers.codec(codecs.downlink_of == "model" ? codecs.downlink : CodecOptions{.kind = "raw"}, schema);
}

const ModelPart* newest_change(const RoundPlan& plan) {
    const bool has_one = plan.parts.size() > (plan.base == 0 ? 1U : 0U);
    return has_one && !plan.parts.back().payload.empty() ? &plan.parts.back() : nullptr;
}

HeldModel::HeldModel(const Job& job, const Schema& schema, Initial initial, const Makers& makers)
    : schema_(schema),
      seed_(job.job.seed),
      initial_(std::move(initial)),
      whole_codec_(make_whole_model_codec(job.codec, schema, makers)),
      change_codec_(makers.codec(job.codec.downlink, schema)),
      values_(schema.parameters()),
      control_(corrects_steps(job.federation.strategy) ? schema.parameters() : 0) {}

void HeldModel::receive(const RoundPlan& plan) {
    check_control(plan);
    if (round_ == 0 || digest_ != plan.broadcast)
        move(plan);
    note_change(plan);
    round_ = plan.round;
}

void HeldModel::check_control(const RoundPlan& plan) const {
    const bool has_one = !control_.empty();
    bool fits = has_one || plan.control.empty();
    for (std::size_t i = 0; i < plan.parts.size(); ++i) {
        const bool is_change = (plan.base > 0 || i > 0) && !plan.parts[i].payload.empty();
        fits = fits && plan.parts[i].control.has_value() == (has_one && is_change);
    }
    if (!fits)
        throw FormatError(fmt::format("round {}: the job has {} control variate, and the plan is not of such a one",
                                      plan.round, has_one ? "a" : "no"));
}

void HeldModel::move(const RoundPlan& plan) {
    const bool can_follow = plan.base <= round_ && round_ <= plan.round;
    if (plan.base > 1 && !can_follow)
        throw ModelMissing(fmt::format("round {}: the plan builds on the model of round {}, this node holds {}",
                                       plan.round, plan.base, round_));
    require(plan.base != 0 || !plan.parts.empty(), "a plan without a base needs a whole model");
    const std::uint32_t held = std::exchange(round_, 0);  // nothing, until all has gone well
    if (plan.base == 0)
        take_whole(plan);
    else
        follow(plan, can_follow ? held : 0);
    digest_ = broadcast_digest(values_, control_);
    if (digest_ == plan.broadcast)
        return;
    const std::string problem = fmt::format("round {}: the model decodes to {}, expected {}", plan.round,
                                            to_hex(digest_), to_hex(plan.broadcast));
    if (plan.base == 0)
        throw FormatError(problem);
    change_round_ = 0;  // a change of that round may come again, and be another
    throw ModelMissing(problem);
}

void HeldModel::take_whole(const RoundPlan& plan) {
    decode(*whole_codec_, plan.parts.front(), values_);
    if (plan.control.empty())
        std::ranges::fill(control_, 0.0F);
    else
        whole_codec_->decode(plan.control, {}, control_);
}

void HeldModel::follow(const RoundPlan& plan, std::uint32_t held) {
    if (held == 0) {
        initial_(values_);
        std::ranges::fill(control_, 0.0F);
        held = 1;
    }
    for (const ModelPart& part : plan.parts) {
        if (part.round <= held || part.payload.empty())
            continue;
        decode_change(part);
        for (std::size_t j = 0; j < values_.size(); ++j)
            values_[j] += change_[j];
        if (part.control)
            move_control(schema_, *part.control, change_, control_);
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
