// Calls a run's rounds together, on the simulated clock where there is one. Private to the aggregator.
#pragma once

#include "aggregator/detail/broadcast.hpp"
#include "aggregator/detail/round_runner.hpp"
#include "aggregator/detail/run_state.hpp"
#include "aggregator/schedule.hpp"
#include "core/config.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace dither {

/// Borrows all that it is given.
class Convener {
public:
    /// As make_schedule.
    Convener(const Job& job, ClientSampler::SamplesOf samples_of, const Broadcast& broadcast, RunState& state);

    bool is_timed() const { return schedule_->is_timed(); }
    /// The state is a checkpoint's: time goes on from there.
    void resume();
    /// Whom the next round asks, as far as that is known.
    std::vector<std::uint32_t> clients(std::uint32_t round) { return schedule_->clients(round, time_); }
    /// The round that was broadcast begins.
    const Attendance& convene(std::uint32_t round);
    /// It has ended: what its tasks took on the simulated devices' links is in the state, and of those that nobody
    /// trained in the outcome, too. Returns its simulated seconds.
    double close(RoundOutcome& outcome);
    /// Of simulated time since the run began: what resume() goes on from, to the microsecond.
    double seconds() const;
    /// Who still trains from an earlier model does so in vain.
    void forget() { schedule_->forget(); }

private:
    LinkLoad load_of(std::uint32_t client) const;
    void count_links(RoundOutcome& outcome);

    const Broadcast& broadcast_;
    RunState& state_;
    std::unique_ptr<Schedule> schedule_;
    Attendance attendance_;  ///< of the running round
    SimulatedTime time_{0};  ///< when the next one may begin, since the run did
};

}  // namespace dither
