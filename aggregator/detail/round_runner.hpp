// The network's half of the aggregator: gathers peers, hands out a round's tasks, and turns what comes back into one
// exact sum, journaled before it is acknowledged. It knows nothing of models and strategies.
#pragma once

#include "aggregator/combination.hpp"
#include "aggregator/detail/peers.hpp"
#include "aggregator/detail/receipts.hpp"
#include "aggregator/detail/round_order.hpp"
#include "aggregator/detail/tally.hpp"
#include "aggregator/journal.hpp"
#include "aggregator/round.hpp"
#include "aggregator/server.hpp"
#include "aggregator/strategy.hpp"
#include "core/config.hpp"
#include "transport/hub.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dither {

/// What became of a round.
struct RoundOutcome {
    enum class End { closed, abandoned, interrupted };
    End end = End::interrupted;
    bool diverged = false;
    bool refused = false;                 ///< by the guard, which can be wrong: diverged, too
    bool absent = false;                  ///< nodes stayed away that may return, or the disk was full: nobody's fault
    std::string reason;                   ///< why it was abandoned
    std::vector<WeightedReport> reports;  ///< of the accepted clients, as they arrived
    std::uint32_t dropped = 0;
    std::uint32_t rejected = 0;
    std::uint64_t sent_models = 0;
    std::uint32_t whole_models = 0;  ///< of these, to clients that nothing less could help
    std::uint64_t bytes_up = 0;
    std::uint64_t bytes_down = 0;  ///< what the clients' own links would carry: not what a worker lacks beside
};

/// Borrows everything it is given. One thread. Throws IoError where the journal or the registry does.
class RoundRunner {
public:
    RoundRunner(const ServerSetup& setup, const Schema& schema, const Strategy& strategy);

    /// Waits until so many peers have said hello and are still here, or, where peers do not return, until the last of
    /// those that did has left, and no longer than `until`; false if stopped before.
    bool gather_peers(std::size_t count, Clock::time_point until = Clock::time_point::max());
    /// With a journal, updates of this very round that it holds count as if they had just arrived, and no update is
    /// acknowledged before it is durable there; all are when it returns. Where peers return, it begins with as many as
    /// the quorum needs, and a client without a peer is lost only after federation.rejoin since then, or since its peer
    /// was lost. Where rounds are asynchronous, it goes on until all of order.clients.trained have answered; what they
    /// say is kept for the round that awaits it.
    RoundOutcome run(RoundOrder order);
    /// What stands for the updates that the last run() accepted, at least one: their weighted mean, unless the job says
    /// otherwise (federation.aggregation, federation.attack, federation.async). Once. It is in scratch().
    std::span<float> mean(std::span<WeightedReport> reports) { return tally_.mean(reports); }
    /// A model's worth of memory, the caller's between two runs.
    std::span<float> scratch() { return tally_.scratch(); }
    /// What was kept for later rounds is of no use.
    void forget_early();

    /// What commit() will put on the wire.
    std::uint64_t commit_bytes(const Sha256& model) const;
    /// Tells the peers of every accepted update that it may be forgotten: who speaks for the client now, or who sent
    /// it.
    void commit(const Sha256& model);
    /// Sends all peers home.
    void dismiss(const std::string& reason) { peers_.dismiss(reason); }

private:
    /// An update on its way through the checks.
    struct Offer {
        std::optional<PeerId> peer;        ///< nobody: it comes from the journal
        const Message* message = nullptr;  ///< an Update; null: the tally holds it
        const Update& update() const { return std::get<Update>(*message); }
    };
    struct Accepted {
        std::uint32_t client = 0;
        std::optional<PeerId> peer;
    };
    /// What a client said before the round that awaits it.
    struct Early {
        std::optional<PeerId> peer;         ///< that has trained it
        std::optional<RoundEvent> failure;  ///< nothing: the tally holds its update
    };
    bool stopped() const { return setup_.stop != nullptr && setup_.stop->load(); }
    const RoundPlan& task() const { return std::get<RoundPlan>(task_); }
    const Broadcast& broadcast() const { return *order_.broadcast; }
    void begin(RoundOrder order);
    void replay(const Journal::Entry& entry);
    /// What is known of the round's clients before any of them trains: who is given up, and who said something early.
    void settle_known();
    std::vector<std::uint32_t> tasks() const;  ///< of clients that train, the longest first
    bool is_over() const { return round_->closed() && unanswered_.empty(); }
    void dispatch();
    void give_up_clients();
    /// The round's plan as this peer can run it for this client.
    PrecisionPlan plan_for(PeerId peer, std::uint32_t client) const;
    /// Puts into `plan` the parts that the client needs, and those that its worker needs beside. Returns the bytes of
    /// the latter, which are not the client's.
    std::uint64_t put_parts(const Guest& guest, RoundPlan& plan);
    /// Puts the parts on plan.base into it.
    void put_model(RoundPlan& plan);

    /// The hub's. What is to be acknowledged is, before anything is waited for.
    std::optional<HubEvent> next_event(Clock::time_point deadline);
    void handle(const HubEvent& event);
    void receive(PeerId peer, const Message& message, std::size_t wire_bytes);
    void take_update(PeerId peer, const Message& message, std::size_t wire_bytes);
    void take_failure(PeerId peer, const Failed& failed);
    bool is_current(std::uint32_t round) const { return round_ && round_->number() == round; }
    bool is_pending(std::uint32_t client) const;
    /// What became of a task: an event of this round, or of the one that will await it.
    void conclude(std::uint32_t client, const RoundEvent& event);
    /// An update that a later round awaits, or why it cannot be counted then.
    void hold(const Offer& offer, const std::string& refusal);
    /// Journals an update that will be accepted, and keeps its receipt. Why it cannot be accepted after all, else
    /// empty.
    std::string record(const Offer& offer, std::size_t wire_bytes);
    Probe probe_of(std::uint32_t client) const;
    std::size_t place_of(std::uint32_t client) const;  ///< among those that train

    void step(const RoundEvent& event) { step(event, Offer{}); }
    void step(const RoundEvent& event, const Offer& offer);
    void perform(const round_action::Accept& action, const Offer& offer);
    void perform(const round_action::Refuse& action, const Offer& offer);
    void perform(const round_action::Close& action, const Offer& offer);
    void perform(const round_action::Abandon& action, const Offer& offer);
    void refuse_unasked(PeerId peer, const Update& update, const std::string& reason);
    void refuse(PeerId peer, const Update& update, const std::string& reason);
    /// Of every accepted update the peer that is to be told, if it is here.
    template <typename Tell>
    void for_each_accepted(Tell&& tell) const;

    const ServerSetup& setup_;
    Hub& hub_;
    const FederationOptions& federation_;
    const Schema& schema_;
    bool peers_return_;
    std::uint32_t seed_;
    Tally tally_;
    Peers peers_;
    Receipts receipts_;  ///< of clients that a peer speaks for; with a journal, of all

    std::optional<Round> round_;
    RoundOrder order_;
    Clock::time_point start_;
    Clock::time_point patience_;            ///< then a client that is away may have to be given up
    PrecisionPlan plan_;                    ///< of the round
    std::vector<PrecisionPlan> plans_;      ///< that each client was sent last; empty: none yet
    std::set<std::uint32_t> without_base_;  ///< clients whose node did not hold what it was taken to hold
    Message task_ = RoundPlan{};            ///< sent again and again, with another client, probe, plan and parts
    std::uint32_t parts_base_ = 0;          ///< of the parts in it
    std::vector<ModelPart> whole_;          ///< the parts on base 0, once somebody has needed them
    SharedBytes whole_control_;             ///< that goes with these
    std::vector<Accepted> accepted_;
    std::set<std::uint32_t> unanswered_;      ///< clients that train for a later round
    std::map<std::uint32_t, Early> early_;    ///< clients that have trained for one
    std::uint32_t events_while_waiting_ = 0;  ///< for an acknowledgement
    RoundOutcome outcome_;
};

}  // namespace dither
