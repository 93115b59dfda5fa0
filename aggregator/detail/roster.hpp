// The clients of a run, as its schedules see them. Private to the aggregator.
#pragma once

#include "aggregator/fleet.hpp"
#include "aggregator/sampling.hpp"
#include "aggregator/schedule.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace dither {

/// Borrows the job.
class Roster {
public:
    /// As make_schedule. Without `samples_of`, or a device that is described, there is no fleet.
    Roster(const Job& job, ClientSampler::SamplesOf samples_of);

    const std::optional<Fleet>& fleet() const { return fleet_; }
    /// Whether a round may ask any client at any time, with the same chance.
    bool is_plain() const;
    bool is_available(std::uint32_t client, SimulatedTime time) const;
    bool drops_out(std::uint32_t client, std::uint32_t round) const;
    /// Of a task of all the client's samples.
    SimulatedTime time_of(std::uint32_t client, const LinkLoad& load) const;
    /// The first moment from `now` on at which a round's clients can be asked.
    SimulatedTime first_gathering(SimulatedTime now) const;
    ClientSampler& sampler() { return sampler_; }

private:
    const Job& job_;
    ClientSampler::SamplesOf samples_of_;
    std::optional<Fleet> fleet_;
    ClientSampler sampler_;
};

}  // namespace dither
