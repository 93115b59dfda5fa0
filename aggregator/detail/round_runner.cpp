#include "aggregator/detail/round_runner.hpp"

#include "aggregator/detail/log.hpp"
#include "core/error.hpp"
#include "core/liars.hpp"

#include <algorithm>
#include <functional>
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
      peers_return_(setup.hub.peers_return()),
      seed_(setup.job.job.seed),
      tally_(setup.job, schema, strategy, setup.makers.shared),
      peers_(setup, schema),
      receipts_(setup.hub, setup.journal) {}

bool RoundRunner::gather_peers(std::size_t count, Clock::time_point until) {
    while (peers_.size() < count && !peers_.have_left() && !stopped() && setup_.now() < until)
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
    while (!is_over() && !stopped()) {
        dispatch();
        if (is_over())
            break;
        if (const auto event = next_event(std::min(deadline, patience_)))
            handle(*event);
        if (setup_.now() >= deadline)
            step(round_event::DeadlineReached{});
    }
    std::get<RoundPlan>(task_).parts = {};  // as large as a model, and nobody is sent them any more
    std::get<RoundPlan>(task_).control = {};
    whole_ = {};
    whole_control_ = {};
    outcome_.bytes_down += receipts_.acknowledge();
    outcome_.dropped = round_->count(Round::ClientState::lost) + round_->count(Round::ClientState::late);
    return std::move(outcome_);
}

void RoundRunner::forget_early() {
    tally_.drop_all_held();
    early_.clear();
}

template <typename Tell>
void RoundRunner::for_each_accepted(Tell&& tell) const {
    for (const Accepted& accepted : accepted_) {
        const auto host = peers_.tasks().host_of(accepted.client);
        if (const auto peer = host ? host : accepted.peer; peer && peers_.knows(*peer))
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

void RoundRunner::begin(RoundOrder order) {
    order_ = std::move(order);
    const Attendance& clients = order_.clients;
    const auto fewest = static_cast<std::uint32_t>(fewest_updates(federation_));
    order_.rules.quorum = std::max(order_.rules.quorum, fewest);
    round_.emplace(broadcast().round(), clients.awaited, order_.rules);
    task_ = std::move(order_.task);
    plan_ = task().plan;
    parts_base_ = task().parts.empty() ? kNoParts : 0;
    plans_.assign(clients.trained.size(), {});
    without_base_.clear();
    tally_.begin(task(), broadcast(), order_.bound, clients.awaited.size());
    accepted_.clear();
    unanswered_.clear();
    std::ranges::set_difference(clients.trained, clients.awaited, std::inserter(unanswered_, unanswered_.end()));
    outcome_ = {};
    if (setup_.journal != nullptr)
        setup_.journal->begin(round_->number(), task().broadcast,
                              [this](const Journal::Entry& entry) { replay(entry); });
    if (!accepted_.empty())
        log(setup_, "round {}: {} updates were in the journal", round_->number(), accepted_.size());
    settle_known();
    peers_.tasks().start(round_->number(), tasks());
}

void RoundRunner::settle_known() {
    const Attendance& clients = order_.clients;
    for (const auto& [client, reason] : clients.lost) {
        early_.erase(client);
        tally_.drop_held(client);
        step(round_event::ClientLost{client, reason});
    }
    for (const std::uint32_t client : clients.awaited)
        if (const auto early = early_.extract(client)) {
            const auto& [peer, failure] = early.mapped();
            if (round_->closed())  // so many had diverged
                tally_.drop_held(client);
            else
                step(failure.value_or(round_event::UpdateArrived{client}), Offer{.peer = peer});
        }
}

std::vector<std::uint32_t> RoundRunner::tasks() const {
    std::vector<std::uint32_t> waiting;
    std::ranges::copy_if(order_.clients.trained, std::back_inserter(waiting),
                         [this](std::uint32_t client) { return unanswered_.contains(client) || is_pending(client); });
    if (setup_.samples_of)  // so that no worker begins the longest when the others are done
        std::ranges::stable_sort(waiting, std::greater{}, setup_.samples_of);
    return waiting;
}

void RoundRunner::replay(const Journal::Entry& entry) {
    const Offer offer{.peer = std::nullopt, .message = &entry.update};
    const Update& update = offer.update();
    const bool is_asked = is_current(update.round) && is_pending(update.client);
    const bool has_plan = entry.plan.layers.size() == schema_.layer_count();
    const std::string reason = !is_asked   ? "the round does not wait for it"
                               : !has_plan ? "its plan is of another model"
                                           : tally_.refusal(update);
    if (!reason.empty())
        return log(setup_, "an update of client {} in the journal is not counted: {}", update.client, reason);
    plans_[place_of(update.client)] = entry.plan;
    receipts_.remember(entry.update);
    outcome_.bytes_up += entry.wire_bytes;
    step(round_event::UpdateArrived{update.client}, offer);
}

void RoundRunner::dispatch() {
    auto& plan = std::get<RoundPlan>(task_);
    while (const auto assignment = peers_.tasks().next()) {
        Guest& guest = peers_.at(assignment->peer);
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
    for (const std::uint32_t client : peers_.tasks().take_poisonous())
        conclude(client,
                 round_event::ClientLost{client, fmt::format("its task has lost {} peers; the last one lost: {}",
                                                             Dispatcher::kPeersATaskMayLose, peers_.last_loss())});
    const auto now = setup_.now();
    patience_ = Clock::time_point::max();
    const auto given_up = [&](std::uint32_t client) {
        const auto until = peers_.patience_for(client, start_);
        if (until > now)
            patience_ = std::min(patience_, until);
        return until <= now;
    };
    for (const std::uint32_t client : peers_.tasks().take_unreachable(given_up)) {
        log(setup_, "round {} gives up client {}, whose node is away", round_->number(), client);
        outcome_.absent = peers_return_;
        conclude(client, round_event::ClientLost{
                             client, fmt::format("no peer hosts it; the last one lost: {}", peers_.last_loss())});
    }
}

std::uint64_t RoundRunner::put_parts(const Guest& guest, RoundPlan& plan) {
    const bool has_none = without_base_.contains(plan.client);
    const std::uint32_t own = has_none && !guest.hosts_any() ? 0 : broadcast().base_for(plan.counted);
    plan.base = own;
    if (guest.hosts_any() && own != 0)  // it follows from where it is, if that is further behind
        plan.base = has_none ? 0 : broadcast().base_for(std::min(own, guest.held));
    if (parts_base_ != plan.base)
        put_model(plan);
    outcome_.whole_models += own == 0 ? 1 : 0;
    return plan.base == own ? 0 : broadcast().parts_bytes(plan.base) - broadcast().parts_bytes(own);
}

/// A whole model is encoded once a round, and its bytes are shared by all that it is sent to.
void RoundRunner::put_model(RoundPlan& plan) {
    parts_base_ = plan.base;
    if (plan.base == 0 && whole_.empty()) {
        whole_ = broadcast().parts(0);
        whole_control_ = broadcast().control();
    }
    plan.parts = plan.base == 0 ? whole_ : broadcast().parts(plan.base);
    plan.control = plan.base == 0 ? whole_control_ : SharedBytes{};
}

PrecisionPlan RoundRunner::plan_for(PeerId peer, std::uint32_t client) const {
    const Device device = common(device_of(federation_.devices, seed_, client), peers_.at(peer).device);
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
    if (const auto* joined = std::get_if<PeerJoined>(&event))
        peers_.expect(*joined);
    else if (const auto* received = std::get_if<Received>(&event))
        receive(received->peer, received->message, received->wire_bytes);
    else if (const auto* lost = std::get_if<PeerLost>(&event))
        peers_.lose(lost->peer, lost->reason);
}

void RoundRunner::receive(PeerId peer, const Message& message, std::size_t wire_bytes) {
    if (const auto* hello = std::get_if<Hello>(&message))
        return peers_.greet(peer, *hello);
    if (!peers_.knows(peer))
        return peers_.expel(peer, fmt::format("said {} before hello", name_of(message)));
    outcome_.bytes_up += wire_bytes;
    if (std::holds_alternative<Update>(message))
        take_update(peer, message, wire_bytes);
    else if (const auto* failed = std::get_if<Failed>(&message))
        take_failure(peer, *failed);
    else
        peers_.expel(peer, fmt::format("said {}, which only the aggregator says", name_of(message)));
}

void RoundRunner::take_update(PeerId peer, const Message& message, std::size_t wire_bytes) {
    const Offer offer{peer, &message};
    const Update& update = offer.update();
    const bool was_asked = peers_.tasks().finish(peer, {update.round, update.client});
    if (const auto again = peers_.at(peer).client == update.client ? receipts_.is_the_same(message) : std::nullopt) {
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
    std::string reason = tally_.refusal(update);
    if (unanswered_.contains(update.client))
        return hold(offer, reason);
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
    if (!std::exchange(peers_.at(peer).answered_unasked, true))
        log(setup_, "an update of {} is refused: {}", peers_.name_of(peer), reason);
    refuse(peer, update, reason);
}

void RoundRunner::take_failure(PeerId peer, const Failed& failed) {
    // What it lacked was sent meanwhile: this is its first answer once more.
    const bool is_echo = failed.base != 0 && is_current(failed.round) && without_base_.contains(failed.client);
    if (is_echo || !peers_.tasks().finish(peer, {failed.round, failed.client}) || !is_current(failed.round))
        return;
    if (failed.needs_model && without_base_.insert(failed.client).second)
        peers_.tasks().ask_again(failed.client);
    else if (failed.diverged)
        conclude(failed.client, round_event::ClientDiverged{failed.client, failed.reason});
    else
        conclude(failed.client, round_event::ClientLost{failed.client, failed.reason});
}

void RoundRunner::conclude(std::uint32_t client, const RoundEvent& event) {
    if (unanswered_.erase(client) > 0)
        early_[client] = {.peer = std::nullopt, .failure = event};
    else
        step(event);
}

void RoundRunner::hold(const Offer& offer, const std::string& refusal) {
    const Update& update = offer.update();
    if (!refusal.empty()) {
        conclude(update.client, round_event::ClientLost{update.client, "its update was refused: " + refusal});
        return perform(round_action::Refuse{update.client, refusal}, offer);
    }
    unanswered_.erase(update.client);
    early_[update.client] = {.peer = offer.peer, .failure = {}};
    tally_.hold(update, probe_of(update.client), plans_[place_of(update.client)]);
    outcome_.bytes_down += receipts_.accept(*offer.peer, update.round, update.client);
}

bool RoundRunner::is_pending(std::uint32_t client) const {
    return round_->asked(client) && round_->state_of(client) == Round::ClientState::pending;
}

std::string RoundRunner::record(const Offer& offer, std::size_t wire_bytes) {
    if (setup_.journal == nullptr && peers_.at(*offer.peer).hosts_any())  // who is asked for a client only once
        return {};
    try {
        receipts_.record(*offer.message, plans_[place_of(offer.update().client)], wire_bytes);
    } catch (const DiskFull& error) {
        log(setup_, "an update cannot be kept: {}", error.what());
        outcome_.absent = true;
        return "the aggregator's disk is full";
    }
    return {};
}

Probe RoundRunner::probe_of(std::uint32_t client) const {
    return order_.probes[place_of(client)];
}

std::size_t RoundRunner::place_of(std::uint32_t client) const {
    const std::vector<std::uint32_t>& trained = order_.clients.trained;
    const auto at = std::ranges::lower_bound(trained, client);
    require(at != trained.end() && *at == client, "client {} does not train in round {}", client, round_->number());
    return static_cast<std::size_t>(at - trained.begin());
}

void RoundRunner::step(const RoundEvent& event, const Offer& offer) {
    for (const RoundAction& action : round_->handle(event))
        std::visit([&](const auto& a) { perform(a, offer); }, action);
}

void RoundRunner::perform(const round_action::Accept& action, const Offer& offer) {
    if (auto held = tally_.add_held(action.client)) {
        outcome_.reports.push_back(std::move(*held));
    } else {
        const Update& update = offer.update();
        outcome_.reports.push_back(tally_.add(update, probe_of(action.client), plans_[place_of(action.client)]));
        if (offer.peer)
            outcome_.bytes_down += receipts_.accept(*offer.peer, update.round, update.client);
    }
    accepted_.push_back({action.client, offer.peer});
    if (setup_.progress)
        setup_.progress({.round = round_->number(),
                         .arrived = round_->count(Round::ClientState::accepted),
                         .cohort = federation_.cohort});
}

void RoundRunner::perform(const round_action::Refuse& action, const Offer& offer) {
    ++outcome_.rejected;
    log(setup_, "an update of {} is refused: {}", peers_.name_of(*offer.peer), action.reason);
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
