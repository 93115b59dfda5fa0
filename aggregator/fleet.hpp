// The devices of a simulation: how long each client's task would take, whether it is there, and whether it answers. A
// pure function of the job: no clock. What it says decides who takes part in a round, so everything is computed with
// IEEE's operations and integers, the same on every machine.
//
//     seconds of a task = 8 download / downlink + samples / speed + 8 upload / uplink
//
// where a device without a speed or a link takes no time for that part. Devices differ most in speed, which follows a
// log-normal distribution (the traces of Lai et al., "FedScale: benchmarking model and system performance of federated
// learning at scale", ICML 2022, are as heavy-tailed).
#pragma once

#include "aggregator/availability.hpp"
#include "core/config.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dither {

/// What a task asks of a device.
struct TaskSize {
    double samples = 0;   ///< that it trains on, epochs counted
    double download = 0;  ///< bytes
    double upload = 0;    ///< likewise
};

/// Immutable. Memory: that of the trace files, and nothing for each client; what a client's device can do is computed
/// when asked for.
class Fleet {
public:
    /// No task takes longer: 3 years.
    static constexpr SimulatedTime kLongest{SimulatedTime::period::den * 100'000'000LL};

    /// False where no device of the job has a speed, a link, a drop-out or a trace: then every task takes no time.
    static bool is_described(const FederationOptions& federation);

    /// Reads the traces. `needed`: clients that must be there at a time, now and then. Throws InputError on a file that
    /// is none, which names file, line, column and what was expected, and where so many never are.
    ///
    /// federation.trace.devices has a row for each device (speed in samples a second, uplink and downlink in Mb/s, 0:
    /// no time, and dropout, as in [[federation.devices]]). Its devices, or without it those that the availability
    /// trace names, are dealt to the clients in turn, in a random order.
    Fleet(const FederationOptions& federation, std::uint32_t seed, std::uint32_t needed);

    SimulatedTime time_of(std::uint32_t client, const TaskSize& task) const;
    /// Asked in this round, the client never answers.
    bool drops_out(std::uint32_t client, std::uint32_t round) const;
    bool is_available(std::uint32_t client, SimulatedTime time) const;
    bool is_always_available() const { return availability_.devices() == 0; }
    const Availability& availability() const { return availability_; }

private:
    struct Power {
        double speed = 0;     ///< samples a second
        double uplink = 0;    ///< Mb/s
        double downlink = 0;  ///< likewise
        double dropout = 0;
    };
    void deal(std::size_t devices, std::uint32_t clients, std::uint32_t seed);
    Power power_of(std::uint32_t client) const;
    std::size_t device_of(std::uint32_t client) const { return order_[client % order_.size()]; }

    std::vector<DeviceOptions> kinds_;
    std::uint32_t seed_;
    std::vector<Power> traced_;         ///< the rows of federation.trace.devices
    std::vector<std::uint32_t> order_;  ///< device order_[k mod its size] is client k's; empty: no trace
    Availability availability_;
};

}  // namespace dither
