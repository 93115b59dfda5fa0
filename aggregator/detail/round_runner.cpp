#include "aggregator/detail/round_runner.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/ranges.h>

namespace dither {

namespace {

constexpr std::uint64_t kTooManySamples = std::uint64_t{1} << 40;
constexpr std::uint32_t kNoParts = std::numeric_limits<std::uint32_t>::max();  // no round is a base of these

/// Nobody outvotes those who were drawn to measure.
void forget_unasked(LayerStatistics& statistics, Probe asked) {
    if (!asks(asked, Probe::curvature) && !asks(asked, Probe::curvature_norm))  // whose first product gives both
        statistics.curvature = statistics.curvature_trace = kNotMeasured;
    if (!asks(asked, Probe::curvature_norm))
        statistics.curvature_norm = statistics.lipschitz = kNotMeasured;
    if (!asks(asked, Probe::sensitivity))
        statistics.forward_sensitivity = statistics.backward_sensitivity = kNotMeasured;
}

bool is_limited(const Device& device) {
    return !device.widths.empty() || device.memory != 0;
}

/// "4, 8": the widths that the job fixes in any layer, whatever the plan.
std::string fixed_widths(const QuantizeOptions& quantize, const Schema& schema) {
    std::set<int> widths;
    for (const LayerSpec& layer : schema.layers()) {
        const QuantizeOptions options = options_for(quantize, layer.name);
        widths.insert({options.weights.bits, options.activations.bits, options.gradients.bits, options.optimizer_bits});
    }
    widths.erase(0);
    return fmt::format("{}", fmt::join(widths, ", "));
}

}  // namespace

RoundRunner::RoundRunner(Hub& hub, const Job& job, const Schema& schema, const Strategy& strategy,
                         const std::atomic<bool>* stop, Now now, Arrival on_arrival)
    : hub_(hub),
      schema_(schema),
      strategy_(strategy),
      stop_(stop),
      now_(std::move(now)),
      on_arrival_(std::move(on_arrival)),
      clients_(job.federation.clients),
      seed_(job.job.seed),
      device_options_(job.federation.devices),
      train_(job.train),
      quantize_(job.quantize),
      limits_(FrameLimits::for_model(schema.parameters(), schema.layer_count())),
      welcome_{to_toml(job)},
      codec_(make_codec(job.codec.uplink, schema)),
      accumulator_(schema),
      largest_(schema.layer_count()) {}

bool RoundRunner::gather_peers(std::uint32_t count) {
    const auto all_have_left = [&] { return had_peers_ && dispatcher_.size() == 0; };
    while (dispatcher_.size() < count && !all_have_left() && !stopped())
        if (const auto event = hub_.next_event(Clock::time_point::max()))
            handle(*event);
    return !stopped();
}

RoundOutcome RoundRunner::run(RoundOrder order) {
    const bool has_deadline = order.deadline.count() > 0;
    const auto deadline = has_deadline ? now_() + order.deadline : Clock::time_point::max();
    begin(std::move(order));
    while (!round_->closed() && !stopped()) {
        dispatch();
        if (round_->closed())
            break;
        if (const auto event = hub_.next_event(deadline))
            handle(*event);
        if (now_() >= deadline)
            step(round_event::DeadlineReached{});
    }
    outcome_.dropped = round_->count(Round::ClientState::lost) + round_->count(Round::ClientState::late);
    return std::move(outcome_);
}

void RoundRunner::mean(std::span<float> out) {
    accumulator_.mean(*codec_, task().uplink_steps, out);
}

std::uint64_t RoundRunner::commit_bytes(const Sha256& model) const {
    std::uint64_t bytes = 0;
    for (const auto& [peer, task] : accepted_)
        if (dispatcher_.knows(peer))
            bytes += encode_frame(RoundCommitted{task.round, task.client, model}).size();
    return bytes;
}

void RoundRunner::commit(const Sha256& model) {
    for (const auto& [peer, task] : accepted_)
        if (dispatcher_.knows(peer))
            hub_.send(peer, RoundCommitted{task.round, task.client, model});
}

void RoundRunner::dismiss(const std::string& reason) {
    for (const PeerId peer : dispatcher_.peers())
        hub_.send(peer, Stop{reason});
}

void RoundRunner::begin(RoundOrder order) {
    order_ = std::move(order);
    const std::vector<std::uint32_t>& asked = order_.asked;
    round_.emplace(broadcast().round(), asked, order_.rules);
    dispatcher_.start(broadcast().round(), asked);
    task_ = broadcast().task();
    plan_ = task().plan;
    parts_base_ = task().parts.empty() ? kNoParts : 0;
    plans_.assign(asked.size(), {});
    without_base_.clear();
    accumulator_.reset(asked.size());
    accepted_.clear();
    outcome_ = {};
}

void RoundRunner::dispatch() {
    auto& plan = std::get<RoundPlan>(task_);
    while (const auto assignment = dispatcher_.next()) {
        Guest& guest = guests_.at(assignment->peer);
        plan.client = assignment->task.client;
        plan.counted = order_.counted[place_of(plan.client)];
        plan.probe = probe_of(plan.client);
        plan.plan = plan_for(assignment->peer, plan.client);
        plans_[place_of(plan.client)] = plan.plan;
        const std::uint64_t beside = put_parts(guest, plan);
        const std::uint64_t sent = hub_.send(assignment->peer, task_);
        outcome_.bytes_down += sent - std::min(sent, beside);
        ++outcome_.sent_models;
        guest.held = plan.round;
    }
    for (const std::uint32_t client : dispatcher_.take_poisonous())
        step(round_event::ClientLost{client, fmt::format("its task has lost {} peers; the last one lost: {}",
                                                         Dispatcher::kPeersATaskMayLose, last_loss_)});
    for (const std::uint32_t client : dispatcher_.take_unreachable())
        step(round_event::ClientLost{client, fmt::format("no peer hosts it; the last one lost: {}", last_loss_)});
}

std::uint64_t RoundRunner::put_parts(const Guest& guest, RoundPlan& plan) {
    const bool has_none = without_base_.contains(plan.client);
    const std::uint32_t own = has_none && !guest.hosts_any ? 0 : broadcast().base_for(plan.counted);
    plan.base = own;
    if (guest.hosts_any && own != 0)  // it follows from where it is, if that is further behind
        plan.base = has_none ? 0 : broadcast().base_for(std::min(own, guest.held));
    if (parts_base_ != plan.base) {
        plan.parts = broadcast().parts(plan.base);
        parts_base_ = plan.base;
    }
    outcome_.whole_models += own == 0 ? 1 : 0;
    return plan.base == own ? 0 : broadcast().parts_bytes(plan.base) - broadcast().parts_bytes(own);
}

PrecisionPlan RoundRunner::plan_for(PeerId peer, std::uint32_t client) const {
    const Device device = common(device_of(device_options_, seed_, client), guests_.at(peer).device);
    return fit(plan_, device, schema_, train_.batch_size);
}

void RoundRunner::handle(const HubEvent& event) {
    // A peer that has only joined is nobody until its hello.
    if (const auto* received = std::get_if<Received>(&event))
        receive(received->peer, received->message, received->wire_bytes);
    else if (const auto* lost = std::get_if<PeerLost>(&event))
        lose(lost->peer, lost->reason);
}

void RoundRunner::receive(PeerId peer, const Message& message, std::size_t wire_bytes) {
    if (const auto* hello = std::get_if<Hello>(&message))
        return greet(peer, *hello);
    if (!dispatcher_.knows(peer))
        return expel(peer, fmt::format("said {} before hello", name_of(message)));
    outcome_.bytes_up += wire_bytes;
    if (const auto* update = std::get_if<Update>(&message))
        take_update(peer, *update);
    else if (const auto* failed = std::get_if<Failed>(&message))
        take_failure(peer, *failed);
    else
        expel(peer, fmt::format("said {}, which only the aggregator says", name_of(message)));
}

void RoundRunner::greet(PeerId peer, const Hello& hello) {
    if (hello.client != kAnyClient && hello.client >= clients_)
        return expel(peer, fmt::format("speaks for client {}, expected 0 .. {}", hello.client, clients_ - 1));
    if (dispatcher_.knows(peer))
        return expel(peer, "said hello twice");
    // Who hosts a client is chance: what it runs, and so the model, must not follow from it.
    if (hello.client == kAnyClient && is_limited(hello.device))
        return expel(peer,
                     "limits its widths or memory, but speaks for any client: expected a device without limits, or "
                     "a peer that speaks for one client");
    if (!executes_fixed_bits(hello.device.widths, quantize_))
        return expel(peer, fmt::format("executes {} bits, expected also those that [quantize] fixes: {}",
                                       fmt::join(hello.device.widths, ", "), fixed_widths(quantize_, schema_)));
    if (!dispatcher_.join(peer, hello.client))
        return expel(peer, fmt::format("client {} is spoken for by another peer", hello.client));
    guests_[peer] = {.device = hello.device, .hosts_any = hello.client == kAnyClient};
    had_peers_ = true;
    hub_.admit(peer, limits_);
    hub_.send(peer, welcome_);
}

void RoundRunner::lose(PeerId peer, const std::string& reason) {
    if (!dispatcher_.knows(peer))
        return;
    last_loss_ = fmt::format("peer {}: {}", peer, reason);
    dispatcher_.lose(peer);
    guests_.erase(peer);
}

void RoundRunner::expel(PeerId peer, const std::string& reason) {
    hub_.drop(peer, reason);
    lose(peer, reason);
}

void RoundRunner::take_update(PeerId peer, const Update& update) {
    const Offer offer{peer, &update};
    if (!dispatcher_.finish(peer, {update.round, update.client})) {
        ++outcome_.rejected;
        return refuse(offer, fmt::format("this peer was not asked for client {} in round {}, or has answered",
                                         update.client, update.round));
    }
    if (!is_current(update.round))
        return refuse(offer, fmt::format("round {} is over", update.round));
    const std::string reason = refusal(update);
    if (reason.empty())
        step(round_event::UpdateArrived{update.client}, offer);
    else
        step(round_event::UpdateRefused{update.client, reason}, offer);
}

void RoundRunner::take_failure(PeerId peer, const Failed& failed) {
    if (!dispatcher_.finish(peer, {failed.round, failed.client}) || !is_current(failed.round))
        return;
    if (failed.needs_model && without_base_.insert(failed.client).second)
        dispatcher_.ask_again(failed.client);
    else if (failed.diverged)
        step(round_event::ClientDiverged{failed.client, failed.reason});
    else
        step(round_event::ClientLost{failed.client, failed.reason});
}

std::string RoundRunner::refusal(const Update& update) {
    if (update.base != task().broadcast)
        return "it starts from another model than the round's";
    if (std::string reason = refusal_of(update.report); !reason.empty())
        return reason;
    try {
        codec_->validate(update.payload, terms_of(update.client), largest_);
    } catch (const FormatError& e) {
        return e.what();
    }
    return accumulator_.refusal(largest_, strategy_.weight(update.report.samples));
}

Terms RoundRunner::terms_of(std::uint32_t client) const {
    return {
        .steps = task().uplink_steps,
        .key = {.seed = seed_, .purpose = Purpose::uplink_rounding, .client = client, .round = task().round},
        .expectation = broadcast().expectation(),
    };
}

std::string RoundRunner::refusal_of(const TrainingReport& report) const {
    if (report.layers.size() != schema_.layer_count())
        return fmt::format("it reports {} layers, expected {}", report.layers.size(), schema_.layer_count());
    if (report.samples == 0 || report.samples >= kTooManySamples)
        return fmt::format("it claims {} samples, expected 1 .. 2^40 - 1", report.samples);
    const std::uint64_t batches = (report.samples - 1) / train_.batch_size + 1;
    if (report.steps % train_.epochs != 0 || report.steps / train_.epochs != batches)
        return fmt::format("it claims {} steps for {} samples, expected {} epochs of {}", report.steps, report.samples,
                           train_.epochs, batches);
    return {};
}

TrainingReport RoundRunner::believable(TrainingReport report, Probe asked) const {
    for (std::size_t layer = 0; layer < report.layers.size(); ++layer) {
        LayerStatistics& statistics = report.layers[layer];
        forget_unasked(statistics, asked);
        // A value lies less than one unit from its code, rounded stochastically.
        const double unit = codec_->unit(layer, task().uplink_steps);
        const auto reach = static_cast<float>(static_cast<double>(largest_[layer] + 1) * unit);
        statistics.update_range = std::min(statistics.update_range, reach);
        const bool has_range = statistics.update_range >= 0;
        statistics.update_rms = std::min(statistics.update_rms, has_range ? statistics.update_range : reach);
    }
    return report;
}

Probe RoundRunner::probe_of(std::uint32_t client) const {
    return order_.probes[place_of(client)];
}

std::size_t RoundRunner::place_of(std::uint32_t client) const {
    return static_cast<std::size_t>(std::ranges::lower_bound(order_.asked, client) - order_.asked.begin());
}

void RoundRunner::step(const RoundEvent& event, const Offer& offer) {
    for (const RoundAction& action : round_->handle(event))
        std::visit([&](const auto& a) { perform(a, offer); }, action);
}

void RoundRunner::perform(const round_action::Accept& action, const Offer& offer) {
    const Update& update = *offer.update;
    const std::uint64_t weight = strategy_.weight(update.report.samples);
    const Probe probe = probe_of(action.client);
    accumulator_.add(*codec_, terms_of(update.client), update.payload, largest_, weight);
    outcome_.reports.push_back({.client = action.client,
                                .weight = weight,
                                .report = believable(update.report, probe),
                                .probe = probe,
                                .plan = plans_[place_of(action.client)],
                                .payload_bytes = update.payload.size()});
    accepted_.push_back({offer.peer, {update.round, update.client}});
    acknowledge(offer, true, {});
    on_arrival_(round_->number(), round_->count(Round::ClientState::accepted));
}

void RoundRunner::perform(const round_action::Refuse& action, const Offer& offer) {
    ++outcome_.rejected;
    refuse(offer, action.reason);
}

void RoundRunner::perform(const round_action::Close&, const Offer&) {
    outcome_.end = RoundOutcome::End::closed;
}

void RoundRunner::perform(const round_action::Abandon& action, const Offer&) {
    outcome_.end = RoundOutcome::End::abandoned;
    outcome_.diverged = action.diverged;
    outcome_.reason = action.reason;
}

void RoundRunner::refuse(const Offer& offer, const std::string& reason) {
    acknowledge(offer, false, reason);
}

void RoundRunner::acknowledge(const Offer& offer, bool accepted, const std::string& reason) {
    outcome_.bytes_down +=
        hub_.send(offer.peer, UpdateAck{offer.update->round, offer.update->client, accepted, reason});
}

}  // namespace dither
