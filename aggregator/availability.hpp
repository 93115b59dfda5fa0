// When the devices of a simulation are there, from a trace (federation.trace.availability).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace dither {

/// Since a run began, or how long something lasts, on the simulated devices. Whole microseconds, so that sums and
/// periods are exact.
using SimulatedTime = std::chrono::microseconds;

/// A CSV file of device,from,until: device (from 0) is there from `from` on and until before `until`, in seconds; as
/// often as there are rows of it; a device without one is always there. Everything repeats with the period of the
/// largest `until`. A value; 16 bytes a row and 12 for each moment at which anybody comes or goes.
class Availability {
public:
    /// Everybody is always there.
    Availability() = default;
    /// Throws InputError that names file, line, column and what was expected.
    explicit Availability(const std::string& file);

    /// One more than the largest device that has a row; 0 without a file.
    std::size_t devices() const { return first_.empty() ? 0 : first_.size() - 1; }
    bool is_there(std::size_t device, SimulatedTime time) const;

    /// Before what follows: for how many clients each device stands, and how many there are beside.
    void count_clients(const std::function<std::uint32_t(std::size_t device)>& clients, std::uint32_t others);
    /// The most clients that are there at one time.
    std::uint32_t most() const;
    /// The first moment from `time` on at which so many clients are there, at most most().
    SimulatedTime first_with(std::uint32_t clients, SimulatedTime time) const;
    /// The first moment after `time` at which anybody may come or go; a period later at most. Needs devices().
    SimulatedTime next_change(SimulatedTime time) const;
    SimulatedTime period() const { return period_; }

private:
    struct Interval {
        SimulatedTime from{0};
        SimulatedTime until{0};
    };
    struct Change {
        SimulatedTime time{0};      ///< within a period
        std::uint32_t clients = 0;  ///< that are there from then on
    };
    std::size_t change_at(SimulatedTime phase) const;

    std::vector<Interval> intervals_;  ///< of one device after the other, ascending and apart
    std::vector<std::size_t> first_;   ///< of each device, in intervals_, and the end; empty: all are always there
    SimulatedTime period_{0};
    std::vector<Change> changes_;  ///< ascending, from 0 on
};

}  // namespace dither
