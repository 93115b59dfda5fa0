// The network's half of the aggregator: gathers peers, hands out a round's tasks, and turns what comes back into one
// exact sum. It knows nothing of models, strategies or disks.
#pragma once

#include "aggregator/accumulator.hpp"
#include "aggregator/combination.hpp"
#include "aggregator/detail/broadcast.hpp"
#include "aggregator/detail/dispatcher.hpp"
#include "aggregator/round.hpp"
#include "aggregator/strategy.hpp"
#include "core/config.hpp"
#include "core/precision/device.hpp"
#include "transport/codec.hpp"
#include "transport/hub.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace dither {

/// What a round asks, of whom.
struct RoundOrder {
    std::vector<std::uint32_t> asked;    ///< ascending
    std::vector<Probe> probes;           ///< of each of them
    std::vector<std::uint32_t> counted;  ///< likewise, the last round in which its update was counted; 0: none
    RoundRules rules;
    std::chrono::milliseconds deadline{0};  ///< 0: wait for all
    const Broadcast* broadcast = nullptr;   ///< of this round; borrowed until the next run()
};

/// What became of it.
struct RoundOutcome {
    enum class End { closed, abandoned, interrupted };
    End end = End::interrupted;
    bool diverged = false;
    bool refused = false;                 ///< by the guard, which can be wrong: diverged, too
    std::string reason;                   ///< why it was abandoned
    std::vector<WeightedReport> reports;  ///< of the accepted clients, as they arrived
    std::uint32_t dropped = 0;
    std::uint32_t rejected = 0;
    std::uint64_t sent_models = 0;
    std::uint32_t whole_models = 0;  ///< of these, to clients that nothing less could help
    std::uint64_t bytes_up = 0;
    std::uint64_t bytes_down = 0;  ///< what the clients' own links would carry: not what a worker lacks beside
};

/// Borrows everything it is given. One thread.
class RoundRunner {
public:
    using Arrival = std::function<void(std::uint32_t round, std::uint32_t arrived)>;

    using Now = std::function<Clock::time_point()>;

    RoundRunner(Hub& hub, const Job& job, const Schema& schema, const Strategy& strategy, const std::atomic<bool>* stop,
                Now now, Arrival on_arrival);

    /// Waits until so many peers have said hello and are still here, or until the last of those that did has left;
    /// false if stopped before.
    bool gather_peers(std::uint32_t count);
    RoundOutcome run(RoundOrder order);
    /// The weighted mean of the updates that the last run() accepted, at least one; once.
    void mean(std::span<float> out);

    /// What commit() will put on the wire.
    std::uint64_t commit_bytes(const Sha256& model) const;
    /// Tells the peers of every accepted update that it may be forgotten.
    void commit(const Sha256& model);
    /// Sends all peers home.
    void dismiss(const std::string& reason);

private:
    /// An update on its way through the checks.
    struct Offer {
        PeerId peer = 0;
        const Update* update = nullptr;
    };

    /// One that has said hello.
    struct Guest {
        Device device;           ///< as a peer that speaks for one client describes itself; else without limits
        bool hosts_any = false;  ///< a worker
        std::uint32_t held = 0;  ///< a worker: the round whose model it has after all that it was sent; 0: none
    };

    bool stopped() const { return stop_ != nullptr && stop_->load(); }
    const RoundPlan& task() const { return std::get<RoundPlan>(task_); }
    const Broadcast& broadcast() const { return *order_.broadcast; }
    void begin(RoundOrder order);
    void dispatch();
    /// The round's plan as this peer can run it for this client.
    PrecisionPlan plan_for(PeerId peer, std::uint32_t client) const;
    /// Puts into `plan` the parts that the client needs, and those that its worker needs beside. Returns the bytes of
    /// the latter, which are not the client's.
    std::uint64_t put_parts(const Guest& guest, RoundPlan& plan);

    void handle(const HubEvent& event);
    void receive(PeerId peer, const Message& message, std::size_t wire_bytes);
    void greet(PeerId peer, const Hello& hello);
    void lose(PeerId peer, const std::string& reason);
    void expel(PeerId peer, const std::string& reason);
    void take_update(PeerId peer, const Update& update);
    void take_failure(PeerId peer, const Failed& failed);
    bool is_current(std::uint32_t round) const { return round_ && round_->number() == round; }
    /// Why an update cannot be added, empty if it can. Fills largest_.
    std::string refusal(const Update& update);
    std::string refusal_of(const TrainingReport& report) const;
    Terms terms_of(std::uint32_t client) const;  ///< of its update
    /// The report without measurements that `asked` is not, and what its own payload, whose largest codes are largest_,
    /// proves wrong.
    TrainingReport believable(TrainingReport report, Probe asked) const;
    Probe probe_of(std::uint32_t client) const;
    std::size_t place_of(std::uint32_t client) const;  ///< among those that were asked

    void step(const RoundEvent& event) { step(event, Offer{}); }
    void step(const RoundEvent& event, const Offer& offer);
    void perform(const round_action::Accept& action, const Offer& offer);
    void perform(const round_action::Refuse& action, const Offer& offer);
    void perform(const round_action::Close& action, const Offer& offer);
    void perform(const round_action::Abandon& action, const Offer& offer);
    void refuse(const Offer& offer, const std::string& reason);
    void acknowledge(const Offer& offer, bool accepted, const std::string& reason);

    Hub& hub_;
    const Schema& schema_;
    const Strategy& strategy_;
    const std::atomic<bool>* stop_;
    Now now_;
    Arrival on_arrival_;
    std::uint32_t clients_;
    std::uint32_t seed_;
    std::vector<DeviceOptions> device_options_;
    TrainOptions train_;
    QuantizeOptions quantize_;
    FrameLimits limits_;  ///< of a peer that is in
    Welcome welcome_;
    std::unique_ptr<Codec> codec_;  ///< uplink
    Accumulator accumulator_;
    Dispatcher dispatcher_;
    std::map<PeerId, Guest> guests_;
    bool had_peers_ = false;
    std::string last_loss_ = "none has joined";

    std::optional<Round> round_;
    RoundOrder order_;
    PrecisionPlan plan_;                    ///< of the round
    std::vector<PrecisionPlan> plans_;      ///< that each client was sent last; empty: none yet
    std::set<std::uint32_t> without_base_;  ///< clients whose node did not hold what it was taken to hold
    Message task_ = RoundPlan{};            ///< sent again and again, with another client, probe, plan and parts
    std::uint32_t parts_base_ = 0;          ///< of the parts in it
    std::vector<std::uint64_t> largest_;
    std::vector<Dispatcher::Assignment> accepted_;
    RoundOutcome outcome_;
};

}  // namespace dither
