#include "aggregator/detail/round_runner.hpp"

#include "core/error.hpp"
#include "core/liars.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

namespace dither {

namespace {

constexpr std::uint32_t kEventsWhileWaiting = 256;  // however busy others are, whoever was accepted is told then
constexpr std::uint32_t kNoParts = std::numeric_limits<std::uint32_t>::max();  // no round is a base of these

}  // namespace

RoundRunner::RoundRunner(const ServerSetup& setup, const Schema& schema, const Strategy& strategy)
    : setup_(setup),
      hub_(setup.hub),
      federation_(setup.job.federation),
      schema_(schema),
      strategy_(strategy),
      peers_return_(setup.hub.peers_return()),
      seed_(setup.job.job.seed),
      limits_(FrameLimits::for_model(schema.parameters(), schema.layer_count())),
      welcome_{to_toml(setup.job)},
      codec_(make_codec(setup.job.codec.uplink, schema)),
      check_(setup.job.train, schema, *codec_),
      accumulator_(schema),
      guests_(setup.job, schema, setup.registry, peers_return_),
      receipts_(setup.hub, setup.journal) {
    if (Gathering::is_needed(federation_))
        gathering_.emplace(federation_, seed_, schema.parameters());
}

bool RoundRunner::gather_peers(std::size_t count, Clock::time_point until) {
    const auto all_have_left = [&] { return !peers_return_ && had_peers_ && dispatcher_.size() == 0; };
    while (dispatcher_.size() < count && !all_have_left() && !stopped() && setup_.now() < until)
        if (const auto event = next_event(until))
            handle(*event);
    return !stopped();
}

RoundOutcome RoundRunner::run(RoundOrder order) {
    begin(std::move(order));
    if (peers_return_ && !round_->closed())  // a round is not for a federation that is away
        gather_peers(order_.rules.quorum - std::min(order_.rules.quorum, round_->count(Round::ClientState::accepted)));
    start_ = setup_.now();
    const auto deadline = order_.deadline.count() > 0 ? start_ + order_.deadline : Clock::time_point::max();
    while (!round_->closed() && !stopped()) {
        dispatch();
        if (round_->closed())
            break;
        if (const auto event = next_event(std::min(deadline, patience_)))
            handle(*event);
        if (setup_.now() >= deadline)
            step(round_event::DeadlineReached{});
    }
    std::get<RoundPlan>(task_).parts = {};  // as large as a model, and nobody is sent them any more
    whole_ = {};
    outcome_.bytes_down += receipts_.acknowledge();
    outcome_.dropped = round_->count(Round::ClientState::lost) + round_->count(Round::ClientState::late);
    return std::move(outcome_);
}

std::span<float> RoundRunner::mean() {
    if (!gathering_)
        return accumulator_.mean(*codec_, task().uplink_steps);
    gathering_->combine(scratch());
    return scratch();
}

template <typename Tell>
void RoundRunner::for_each_accepted(Tell&& tell) const {
    for (const Accepted& accepted : accepted_) {
        const auto host = dispatcher_.host_of(accepted.client);
        if (const auto peer = host ? host : accepted.peer; peer && dispatcher_.knows(*peer))
            tell(*peer, accepted.client);
    }
}

std::uint64_t RoundRunner::commit_bytes(const Sha256& model) const {
    std::uint64_t bytes = 0;
    for_each_accepted([&](PeerId, std::uint32_t client) {
        bytes += encode_frame(RoundCommitted{round_->number(), client, model}).size();
    });
    return bytes;
}

void RoundRunner::commit(const Sha256& model) {
    for_each_accepted([&](PeerId peer, std::uint32_t client) {
        hub_.send(peer, RoundCommitted{round_->number(), client, model});
    });
}

void RoundRunner::dismiss(const std::string& reason) {
    for (const PeerId peer : dispatcher_.peers())
        hub_.send(peer, Stop{reason});
}

void RoundRunner::begin(RoundOrder order) {
    order_ = std::move(order);
    const std::vector<std::uint32_t>& asked = order_.asked;
    if (gathering_)
        gathering_->begin(broadcast().round());
    const auto fewest = static_cast<std::uint32_t>(fewest_updates(federation_));
    order_.rules.quorum = std::max(order_.rules.quorum, fewest);
    round_.emplace(broadcast().round(), asked, order_.rules);
    task_ = std::move(order_.task);
    plan_ = task().plan;
    parts_base_ = task().parts.empty() ? kNoParts : 0;
    plans_.assign(asked.size(), {});
    without_base_.clear();
    accumulator_.reset(asked.size());
    accepted_.clear();
    outcome_ = {};
    if (setup_.journal != nullptr)
        setup_.journal->begin(round_->number(), task().broadcast,
                              [this](const Journal::Entry& entry) { replay(entry); });
    if (!accepted_.empty())
        log("round {}: {} updates were in the journal", round_->number(), accepted_.size());
    std::vector<std::uint32_t> waiting;
    std::ranges::copy_if(asked, std::back_inserter(waiting),
                         [this](std::uint32_t client) { return is_pending(client); });
    dispatcher_.start(round_->number(), waiting);
}

void RoundRunner::replay(const Journal::Entry& entry) {
    const Offer offer{.peer = std::nullopt, .message = &entry.update};
    const Update& update = offer.update();
    const bool is_asked = is_current(update.round) && is_pending(update.client);
    const bool has_plan = entry.plan.layers.size() == schema_.layer_count();
    const std::string reason = !is_asked   ? "the round does not wait for it"
                               : !has_plan ? "its plan is of another model"
                                           : refusal(update);
    if (!reason.empty())
        return log("an update of client {} in the journal is not counted: {}", update.client, reason);
    plans_[place_of(update.client)] = entry.plan;
    receipts_.remember(entry.update);
    outcome_.bytes_up += entry.wire_bytes;
    step(round_event::UpdateArrived{update.client}, offer);
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
    give_up_clients();
}

void RoundRunner::give_up_clients() {
    for (const std::uint32_t client : dispatcher_.take_poisonous())
        step(round_event::ClientLost{client, fmt::format("its task has lost {} peers; the last one lost: {}",
                                                         Dispatcher::kPeersATaskMayLose, last_loss_)});
    const auto now = setup_.now();
    patience_ = Clock::time_point::max();
    const auto given_up = [&](std::uint32_t client) {
        const auto until = patience_for(client);
        if (until > now)
            patience_ = std::min(patience_, until);
        return until <= now;
    };
    for (const std::uint32_t client : dispatcher_.take_unreachable(given_up)) {
        log("round {} gives up client {}, whose node is away", round_->number(), client);
        outcome_.absent = peers_return_;
        step(round_event::ClientLost{client, fmt::format("no peer hosts it; the last one lost: {}", last_loss_)});
    }
}

Clock::time_point RoundRunner::patience_for(std::uint32_t client) const {
    if (!peers_return_)
        return Clock::time_point::min();
    const auto away = away_since_.find(client);
    return federation_.rejoin + (away == away_since_.end() ? start_ : std::max(start_, away->second));
}

std::uint64_t RoundRunner::put_parts(const Guest& guest, RoundPlan& plan) {
    const bool has_none = without_base_.contains(plan.client);
    const std::uint32_t own = has_none && !guest.hosts_any() ? 0 : broadcast().base_for(plan.counted);
    plan.base = own;
    if (guest.hosts_any() && own != 0)  // it follows from where it is, if that is further behind
        plan.base = has_none ? 0 : broadcast().base_for(std::min(own, guest.held));
    if (parts_base_ != plan.base) {
        plan.parts = parts_on(plan.base);
        parts_base_ = plan.base;
    }
    outcome_.whole_models += own == 0 ? 1 : 0;
    return plan.base == own ? 0 : broadcast().parts_bytes(plan.base) - broadcast().parts_bytes(own);
}

/// A whole model is encoded once a round, and its bytes are shared by all that it is sent to.
std::vector<ModelPart> RoundRunner::parts_on(std::uint32_t base) {
    if (base != 0)
        return broadcast().parts(base);
    if (whole_.empty())
        whole_ = broadcast().parts(0);
    return whole_;
}

PrecisionPlan RoundRunner::plan_for(PeerId peer, std::uint32_t client) const {
    const Device device = common(device_of(federation_.devices, seed_, client), guests_.at(peer).device);
    return fit(plan_, device, schema_, setup_.job.train.batch_size);
}

std::optional<HubEvent> RoundRunner::next_event(Clock::time_point deadline) {
    if (!receipts_.has_waiting())
        return hub_.next_event(deadline);
    auto event = hub_.next_event(setup_.now());  // what is there already
    if (!event || receipts_.is_due() || ++events_while_waiting_ == kEventsWhileWaiting) {
        outcome_.bytes_down += receipts_.acknowledge();
        events_while_waiting_ = 0;
    }
    return event;
}

void RoundRunner::handle(const HubEvent& event) {
    // A peer that has only joined is nobody until its hello.
    if (const auto* joined = std::get_if<PeerJoined>(&event))
        guests_.expect(joined->peer, joined->identity);
    else if (const auto* received = std::get_if<Received>(&event))
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
    if (std::holds_alternative<Update>(message))
        take_update(peer, message, wire_bytes);
    else if (const auto* failed = std::get_if<Failed>(&message))
        take_failure(peer, *failed);
    else
        expel(peer, fmt::format("said {}, which only the aggregator says", name_of(message)));
}

void RoundRunner::greet(PeerId peer, const Hello& hello) {
    std::optional<PeerId> superseded;
    if (const std::string reason = guests_.greet(peer, hello, superseded); !reason.empty())
        return expel(peer, reason);
    if (superseded)
        supersede(*superseded);
    const std::uint32_t client = guests_.at(peer).client;
    if (!dispatcher_.join(peer, client))
        return expel(peer, fmt::format("client {} is spoken for by another peer", client));
    away_since_.erase(client);
    had_peers_ = true;
    hub_.admit(peer, limits_);
    welcome_.client = client;
    hub_.send(peer, welcome_);
    log("{} has joined as peer {}", guests_.name_of(peer), peer);
}

void RoundRunner::supersede(PeerId peer) {
    hub_.drop(peer, "this node has connected again");
    dispatcher_.leave(peer);
    guests_.forget(peer);
}

void RoundRunner::lose(PeerId peer, const std::string& reason) {
    if (!dispatcher_.knows(peer))
        return guests_.forget(peer);
    log("{} is lost: {}", guests_.name_of(peer), reason);
    last_loss_ = fmt::format("peer {}: {}", peer, reason);
    if (peers_return_) {  // a link that is bad is no task's fault
        away_since_[guests_.at(peer).client] = setup_.now();
        dispatcher_.leave(peer);
    } else {
        dispatcher_.lose(peer);
    }
    guests_.forget(peer);
}

void RoundRunner::expel(PeerId peer, const std::string& reason) {
    log("{} is refused: {}", guests_.name_of(peer), reason);
    hub_.drop(peer, reason);
    lose(peer, reason);
}

void RoundRunner::take_update(PeerId peer, const Message& message, std::size_t wire_bytes) {
    const Offer offer{peer, &message};
    const Update& update = offer.update();
    const bool was_asked = dispatcher_.finish(peer, {update.round, update.client});
    if (const auto again = guests_.at(peer).client == update.client ? receipts_.is_the_same(message) : std::nullopt) {
        if (*again)
            return void(outcome_.bytes_down += receipts_.accept(peer, update.round, update.client));
        return refuse_unasked(peer, update, "another update of this client was accepted in this round");
    }
    if (!was_asked)
        return refuse_unasked(peer, update,
                              fmt::format("this peer was not asked for client {} in round {}, or has answered",
                                          update.client, update.round));
    if (!is_current(update.round))
        return refuse(peer, update, fmt::format("round {} is over", update.round));
    std::string reason = refusal(update);
    if (reason.empty() && is_pending(update.client))
        reason = record(offer, wire_bytes);
    if (reason.empty())
        step(round_event::UpdateArrived{update.client}, offer);
    else
        step(round_event::UpdateRefused{update.client, reason}, offer);
}

/// Who is not asked can say as much as it likes: one line a connection.
void RoundRunner::refuse_unasked(PeerId peer, const Update& update, const std::string& reason) {
    ++outcome_.rejected;
    if (!std::exchange(guests_.at(peer).answered_unasked, true))
        log("an update of {} is refused: {}", guests_.name_of(peer), reason);
    refuse(peer, update, reason);
}

void RoundRunner::take_failure(PeerId peer, const Failed& failed) {
    // What it lacked was sent meanwhile: this is its first answer once more.
    const bool is_echo = failed.base != 0 && is_current(failed.round) && without_base_.contains(failed.client);
    if (is_echo || !dispatcher_.finish(peer, {failed.round, failed.client}) || !is_current(failed.round))
        return;
    if (failed.needs_model && without_base_.insert(failed.client).second)
        dispatcher_.ask_again(failed.client);
    else if (failed.diverged)
        step(round_event::ClientDiverged{failed.client, failed.reason});
    else
        step(round_event::ClientLost{failed.client, failed.reason});
}

bool RoundRunner::is_pending(std::uint32_t client) const {
    return round_->asked(client) && round_->state_of(client) == Round::ClientState::pending;
}

std::string RoundRunner::refusal(const Update& update) {
    if (std::string reason = check_.refusal(update, task(), terms_of(update.client)); !reason.empty())
        return reason;
    return accumulator_.refusal(check_.largest(), strategy_.weight(update.report.samples));
}

std::string RoundRunner::record(const Offer& offer, std::size_t wire_bytes) {
    if (setup_.journal == nullptr && guests_.at(*offer.peer).hosts_any())  // who is asked for a client only once
        return {};
    try {
        receipts_.record(*offer.message, plans_[place_of(offer.update().client)], wire_bytes);
    } catch (const DiskFull& error) {
        log("an update cannot be kept: {}", error.what());
        outcome_.absent = true;
        return "the aggregator's disk is full";
    }
    return {};
}

Terms RoundRunner::terms_of(std::uint32_t client) const {
    return {
        .steps = task().uplink_steps,
        .key = {.seed = seed_, .purpose = Purpose::uplink_rounding, .client = client, .round = task().round},
        .expectation = broadcast().expectation(),
    };
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
    const Update& update = offer.update();
    const std::uint64_t weight = strategy_.weight(update.report.samples);
    const Probe probe = probe_of(action.client);
    if (gathering_)
        codec_->decode(update.payload, terms_of(update.client), gathering_->add(update.client, weight));
    else
        accumulator_.add(*codec_, terms_of(update.client), update.payload, check_.largest(), weight);
    outcome_.reports.push_back({.client = action.client,
                                .weight = weight,
                                .report = check_.believable(update.report, probe, task().uplink_steps),
                                .probe = probe,
                                .plan = plans_[place_of(action.client)],
                                .payload_bytes = update.payload.size()});
    accepted_.push_back({action.client, offer.peer});
    if (offer.peer)
        outcome_.bytes_down += receipts_.accept(*offer.peer, update.round, update.client);
    if (setup_.progress)
        setup_.progress({.round = round_->number(),
                         .arrived = round_->count(Round::ClientState::accepted),
                         .cohort = federation_.cohort});
}

void RoundRunner::perform(const round_action::Refuse& action, const Offer& offer) {
    ++outcome_.rejected;
    log("an update of {} is refused: {}", guests_.name_of(*offer.peer), action.reason);
    refuse(*offer.peer, offer.update(), action.reason);
}

void RoundRunner::perform(const round_action::Close&, const Offer&) {
    outcome_.end = RoundOutcome::End::closed;
}

void RoundRunner::perform(const round_action::Abandon& action, const Offer&) {
    outcome_.end = RoundOutcome::End::abandoned;
    outcome_.diverged = action.diverged;
    outcome_.reason = action.reason;
}

void RoundRunner::refuse(PeerId peer, const Update& update, const std::string& reason) {
    outcome_.bytes_down += hub_.send(peer, UpdateAck{update.round, update.client, false, reason});
}

}  // namespace dither
