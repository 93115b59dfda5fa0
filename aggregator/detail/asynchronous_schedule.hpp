// FedBuff's order of events, in simulated time. Private to the aggregator.
#pragma once

#include "aggregator/detail/roster.hpp"
#include "aggregator/schedule.hpp"

#include <compare>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace dither {

/// Borrows the job. When a task ends is known when it begins, and so are those that make a round's buffer when the
/// round does. Without devices tasks take no time, and end in the order in which they began.
class AsynchronousSchedule final : public Schedule {
public:
    AsynchronousSchedule(const Job& job, ClientSampler::SamplesOf samples_of);

    bool is_timed() const override { return true; }
    std::vector<std::uint32_t> clients(std::uint32_t, SimulatedTime) override { return {}; }
    Attendance attend(std::uint32_t round, SimulatedTime now, const LoadOf& load_of) override;
    void forget() override;

private:
    struct Task {
        SimulatedTime ends{0};
        std::uint64_t number = 0;  ///< of two that end together the one that began first is back first
        std::uint32_t client = 0;
        std::uint32_t round = 0;  ///< whose model it starts from
        bool answers = true;
        auto operator<=>(const Task&) const = default;
    };

    /// As many tasks begin as there are places and clients that may be asked.
    void fill(std::uint32_t round, SimulatedTime now, const LoadOf& load_of, Attendance& attendance);
    void begin(std::uint32_t client, std::uint32_t round, SimulatedTime now, const LinkLoad& load,
               Attendance& attendance);
    /// The first moment after `now` at which a client may become available that is not.
    SimulatedTime next_arrival(SimulatedTime now) const;
    /// Nobody trains, and nobody could be asked: waits for the first who can; false if nobody ever can.
    bool wait(std::uint32_t round, SimulatedTime& now, const LoadOf& load_of, Attendance& attendance);
    /// The next task is over: its client is back, or given up; true if its update counts.
    bool end_next(std::uint32_t round, SimulatedTime& now, Attendance& attendance);
    /// Why the update of a task that is over does not count; empty if it does.
    std::string problem_of(const Task& task, std::uint32_t round) const;

    const Job& job_;
    Roster roster_;
    std::set<Task> in_flight_;
    std::set<std::uint32_t> busy_;  ///< clients that are in flight, or were in this round
    std::uint64_t begun_ = 0;
    std::uint32_t draws_ = 0;        ///< of this round
    SimulatedTime nobody_until_{0};  ///< all that are available are busy, and nobody else comes before
};

}  // namespace dither
