#include "aggregator/detail/roster.hpp"

#include <utility>

namespace dither {

Roster::Roster(const Job& job, ClientSampler::SamplesOf samples_of)
    : job_(job), samples_of_(std::move(samples_of)), sampler_(job.federation, job.job.seed, samples_of_) {
    if (samples_of_ && Fleet::is_described(job.federation))
        fleet_.emplace(job.federation, job.job.seed, asked_in_a_round(job.federation));
}

bool Roster::is_plain() const {
    return job_.federation.sampling == "uniform" && (!fleet_ || fleet_->is_always_available());
}

bool Roster::is_available(std::uint32_t client, SimulatedTime time) const {
    return !fleet_ || fleet_->is_available(client, time);
}

bool Roster::drops_out(std::uint32_t client, std::uint32_t round) const {
    return fleet_ && fleet_->drops_out(client, round);
}

SimulatedTime Roster::time_of(std::uint32_t client, const LinkLoad& load) const {
    if (!fleet_)
        return SimulatedTime{0};
    const double samples = static_cast<double>(samples_of_(client)) * job_.train.epochs;
    return fleet_->time_of(client, {.samples = samples, .download = load.download, .upload = load.upload});
}

SimulatedTime Roster::first_gathering(SimulatedTime now) const {
    return fleet_ ? fleet_->availability().first_with(asked_in_a_round(job_.federation), now) : now;
}

}  // namespace dither
