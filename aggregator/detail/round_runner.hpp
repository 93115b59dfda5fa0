// The network's half of the aggregator: gathers peers, hands out a round's tasks, and turns what comes back into one
// exact sum. It knows nothing of models, strategies or disks.
#pragma once

#include "aggregator/accumulator.hpp"
#include "aggregator/combination.hpp"
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
#include <span>
#include <string>
#include <vector>

namespace dither {

/// What a round asks, of whom.
struct RoundOrder {
    std::vector<std::uint32_t> asked;  ///< ascending
    std::vector<Probe> probes;         ///< of each of them
    RoundRules rules;
    std::chrono::milliseconds deadline{0};  ///< 0: wait for all
    RoundPlan task;  ///< for every client, but for its client, probe and what its node cannot run
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
    std::uint64_t bytes_up = 0;
    std::uint64_t bytes_down = 0;
    std::uint64_t payload_bytes = 0;  ///< of the accepted updates
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
    /// The weighted mean of the updates that the last run() accepted, at least one.
    void mean(std::span<float> out) const;

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

    bool stopped() const { return stop_ != nullptr && stop_->load(); }
    const RoundPlan& task() const { return std::get<RoundPlan>(task_); }
    void begin(RoundOrder order);
    void dispatch();
    /// The round's plan as this peer can run it for this client.
    PrecisionPlan plan_for(PeerId peer, std::uint32_t client) const;

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
    std::map<PeerId, Device> devices_;  ///< as peers that speak for one client describe themselves; else no limits
    bool had_peers_ = false;
    std::string last_loss_ = "none has joined";

    std::optional<Round> round_;
    std::vector<Probe> probes_;
    std::vector<std::uint32_t> asked_;
    PrecisionPlan plan_;                ///< of the round
    std::vector<PrecisionPlan> plans_;  ///< that each of asked_ was sent last; empty: none yet
    Message task_ = RoundPlan{};        ///< sent again and again, with another client, probe and plan
    std::vector<std::uint64_t> largest_;
    std::vector<Dispatcher::Assignment> accepted_;
    RoundOutcome outcome_;
};

}  // namespace dither
