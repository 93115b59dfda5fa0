#include "aggregator/detail/broadcast.hpp"

#include "aggregator/detail/byte_budget.hpp"
#include "core/error.hpp"
#include "core/rng.hpp"
#include "transport/frame.hpp"
#include "transport/held_model.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <limits>
#include <utility>

namespace dither {

namespace {

std::size_t plan_bytes(std::size_t layers) {
    const RoundPlan plan{.plan = PrecisionPlan::uniform(layers, kFullBits),
                         .uplink_steps = std::vector<float>(layers, 1),
                         .parts = {ModelPart{}}};
    return encode_frame(plan).size() - plan.parts.front().wire_bytes();
}

std::size_t update_bytes(std::size_t layers) {
    Update update;
    update.report.layers.resize(layers);
    return encode_frame(update).size();
}

std::size_t answer_bytes() {
    return encode_frame(UpdateAck{}).size() + encode_frame(RoundCommitted{}).size();
}

std::string grids_of(const Fitted& fitted) {
    return fitted.coarsest ? "the coarsest grids" : fmt::format("grids {:.3g} times as coarse", fitted.coarseness);
}

std::string verdict_of(const Fitted& fitted, std::uint64_t budget) {
    if (!fitted.fits)
        return fmt::format("byte_budget {} cannot be kept: {} take {:.0f} bytes", budget, grids_of(fitted),
                           fitted.bytes);
    if (fitted.coarseness > 1)
        return fmt::format("byte_budget {}: grids {:.3g} times as coarse, {:.0f} bytes expected", budget,
                           fitted.coarseness, fitted.bytes);
    return {};
}

}  // namespace

Broadcast::Broadcast(const Job& job, const Schema& schema, const History& history,
                     const PerClient<std::uint32_t>& counted, const Strategy& strategy, const Makers& makers)
    : job_(job),
      schema_(schema),
      history_(history),
      counted_(counted),
      strategy_(strategy),
      sends_changes_(job.codec.downlink_of == "delta"),
      whole_codec_(make_whole_model_codec(job.codec, schema, makers)),
      change_codec_(makers.codec(job.codec.downlink, schema)),
      plan_bytes_(plan_bytes(schema.layer_count())),
      update_bytes_(update_bytes(schema.layer_count())),
      answer_bytes_(answer_bytes()) {}

GridChoice Broadcast::prepare(std::uint32_t round, std::vector<std::uint32_t> asked, std::span<const float> model,
                              const PrecisionPlan& before, Controller& controller, std::span<float> scratch) {
    model_ = model;
    task_.round = round;
    asked_ = std::move(asked);
    const auto encode_at = [&](double coarseness) {
        controller.choose_grids(model, coarseness);
        encode(controller);
    };
    GridChoice choice;
    if (const std::uint64_t budget = job_.precision.byte_budget; budget == 0) {
        encode_at(1);
    } else {
        const double links = sends_changes_ ? 1 : 2;  // that can still be made coarser
        const double coordinates = links * static_cast<double>(asked_.size() * schema_.parameters());
        const Fitted fitted = fit_coarseness((1 - kBudgetInHand) * static_cast<double>(budget), coordinates,
                                             [&](double coarseness) {
                                                 encode_at(coarseness);
                                                 return expected_bytes(controller);
                                             },
                                             [&] { return controller.links().can_be_coarser(); });
        choice.budget = verdict_of(fitted, budget);
    }
    choice.changes = controller.link_changes(before);
    foresee(scratch);
    return choice;
}

RoundPlan Broadcast::take_task() {
    std::vector<ModelPart> parts = std::exchange(task_.parts, {});
    RoundPlan task = task_;
    task.parts = std::move(parts);
    return task;
}

void Broadcast::encode(const Controller& controller) {
    task_.plan = controller.plan();
    const auto uplink = controller.uplink_steps();
    task_.uplink_steps.assign(uplink.begin(), uplink.end());
    if (sends_changes_)
        return;
    task_.parts.resize(1);
    ModelPart& whole = task_.parts.front();
    whole.round = task_.round;
    if (whole_codec_->needs_steps())
        whole.steps.assign(controller.downlink_steps().begin(), controller.downlink_steps().end());
    std::vector<std::byte> payload;
    whole_codec_->encode(model_, downlink_terms(job_.job.seed, whole), payload);
    whole.payload = std::move(payload);
    whole_bytes_ = wire_bytes(task_.parts);
}

void Broadcast::decode(const Codec& codec, const ModelPart& part, std::span<float> out) const {
    codec.decode(part.payload, downlink_terms(job_.job.seed, part), out);
}

void Broadcast::foresee(std::span<float> scratch) {
    expectation_.reset();
    if (!sends_changes_) {
        decode(*whole_codec_, task_.parts.front(), scratch);
        task_.broadcast = sha256(std::span<const float>(scratch));
        return;
    }
    task_.broadcast = broadcast_digest(model_, strategy_.control());
    if (const ModelPart* change = newest()) {
        decode(*change_codec_, *change, scratch);
        expectation_.emplace(schema_, scratch);
    }
}

double Broadcast::most_change_bytes(std::span<const std::uint32_t> asked,
                                    std::span<const WeightedReport> counted_now) const {
    if (job_.precision.byte_budget == 0)
        return std::numeric_limits<double>::infinity();
    double left = (1 - kBudgetInHand) / 2 * static_cast<double>(job_.precision.byte_budget);
    const std::size_t header = ModelPart{}.wire_bytes() + sizeof(float) * schema_.layer_count();
    for (const std::uint32_t client : asked) {
        const auto now = std::ranges::lower_bound(counted_now, client, {}, &WeightedReport::client);
        const bool is_counted = now != counted_now.end() && now->client == client;
        const std::uint32_t held = is_counted ? now->round : counted_[client];
        left -= static_cast<double>(plan_bytes_ + header + parts_bytes(base_for(held)));
    }
    return left / static_cast<double>(asked.size());
}

double Broadcast::expected_bytes(const Controller& controller) const {
    double bytes = static_cast<double>(asked_.size()) * (static_cast<double>(plan_bytes_ + answer_bytes_) +
                                                         upload_bytes(controller.links().expected_update_bytes()));
    for (const std::uint32_t client : asked_)
        bytes += static_cast<double>(parts_bytes(base_for(counted_[client])));
    return bytes;
}

std::uint64_t Broadcast::download_bytes(std::uint32_t client) const {
    return plan_bytes_ + parts_bytes(base_for(counted_[client]));
}

double Broadcast::upload_bytes(double payload_bytes) const {
    return static_cast<double>(update_bytes_) + payload_bytes;
}

const ModelPart* Broadcast::newest() const {
    const bool is_there = sends_changes_ && !history_.parts.empty() && history_.last() == task_.round;
    return is_there && !history_.parts.back().payload.empty() ? &history_.parts.back() : nullptr;
}

std::vector<ModelPart> Broadcast::parts(std::uint32_t base) const {
    require(sends_changes_, "whole models are in the task");
    if (base != 0) {
        const auto since = history_.since(base);
        return {since.begin(), since.end()};
    }
    std::vector<ModelPart> parts(1);
    parts.front().round = task_.round;
    std::vector<std::byte> payload;
    whole_codec_->encode(model_, {}, payload);
    parts.front().payload = std::move(payload);
    if (const ModelPart* change = newest())
        parts.push_back(*change);
    return parts;
}

SharedBytes Broadcast::control() const {
    std::vector<std::byte> payload;
    if (!strategy_.control().empty())
        whole_codec_->encode(strategy_.control(), {}, payload);
    return payload;
}

std::uint64_t Broadcast::parts_bytes(std::uint32_t base) const {
    if (!sends_changes_)
        return whole_bytes_;
    if (base != 0)
        return wire_bytes(history_.since(base));
    const ModelPart* change = newest();
    return ModelPart{}.wire_bytes() + sizeof(float) * schema_.parameters() + strategy_.control().size_bytes() +
           (change ? change->wire_bytes() : 0);
}

}  // namespace dither
