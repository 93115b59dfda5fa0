#include "aggregator/detail/tally.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <utility>

namespace dither {

Tally::Tally(const Job& job, const Schema& schema, const Strategy& strategy, const Makers& makers)
    : federation_(job.federation),
      seed_(job.job.seed),
      strategy_(strategy),
      codec_(makers.codec(job.codec.uplink, schema)),
      check_(job, schema, *codec_),
      accumulator_(schema) {
    if (Gathering::is_needed(federation_))
        gathering_.emplace(federation_, seed_, schema.parameters());
    if (federation_.async.concurrency > 0)
        buffer_.emplace(*codec_, seed_);
}

void Tally::begin(const RoundPlan& task, const Broadcast& broadcast, const NormBound& bound, std::size_t updates) {
    task_ = &task;
    broadcast_ = &broadcast;
    bound_ = bound;
    // An update that is held must be fit for the round that counts it, too, which counts at most a cohort.
    accumulator_.reset(buffer_ ? std::max<std::size_t>(updates, federation_.cohort) : updates);
    if (gathering_)
        gathering_->begin(task.round, bound);
    if (buffer_)
        buffer_->begin(task.round, task.uplink_steps, broadcast.expectation());
}

std::string Tally::refusal(const Update& update) {
    if (std::string reason = check_.refusal(update, *task_, terms_of(update.client)); !reason.empty())
        return reason;
    return accumulator_.refusal(check_.largest(), strategy_.weight(update.report.samples));
}

WeightedReport Tally::add(const Update& update, Probe asked, const PrecisionPlan& plan) {
    if (buffer_) {
        hold(update, asked, plan);
        return *add_held(update.client);
    }
    WeightedReport report = report_of(update, asked, plan);
    if (gathering_)
        codec_->decode(update.payload, terms_of(update.client), gathering_->add(update.client, report.weight));
    else
        accumulator_.add(*codec_, terms_of(update.client), update.payload, check_.largest(), report.weight,
                         bound_.counted(report.weight, report.update_norm));
    return report;
}

void Tally::hold(const Update& update, Probe asked, const PrecisionPlan& plan) {
    const std::span<const std::uint64_t> largest = check_.largest();
    buffer_->keep({.report = report_of(update, asked, plan),
                   .payload = update.payload,
                   .largest = {largest.begin(), largest.end()}});
}

std::optional<WeightedReport> Tally::add_held(std::uint32_t client) {
    const WeightedReport* report = buffer_ ? buffer_->find(client) : nullptr;
    if (report == nullptr)
        return std::nullopt;
    buffer_->count(client);
    return *report;
}

void Tally::drop_held(std::uint32_t client) {
    if (buffer_)
        buffer_->drop(client);
}

void Tally::drop_all_held() {
    if (buffer_)
        buffer_->clear();
}

std::span<float> Tally::mean(std::span<WeightedReport> reports) {
    if (!buffer_ && !gathering_)
        return accumulator_.mean(*codec_, task_->uplink_steps);
    if (buffer_) {
        buffer_->mean(accumulator_, bound_);
        return scratch();
    }
    gathering_->combine(scratch());
    for (WeightedReport& report : reports)
        report.update_norm = gathering_->norm_of(report.client).value_or(report.update_norm);
    return scratch();
}

Terms Tally::terms_of(std::uint32_t client) const {
    return {
        .steps = task_->uplink_steps,
        .key = {.seed = seed_, .purpose = Purpose::uplink_rounding, .client = client, .round = task_->round},
        .expectation = broadcast_->expectation(),
    };
}

WeightedReport Tally::report_of(const Update& update, Probe asked, const PrecisionPlan& plan) const {
    return {.client = update.client,
            .round = update.round,
            .weight = strategy_.weight(update.report.samples),
            .report = check_.believable(update.report, asked, task_->uplink_steps),
            .probe = asked,
            .plan = plan,
            .payload_bytes = update.payload.size(),
            .update_norm = check_.norm()};
}

}  // namespace dither
