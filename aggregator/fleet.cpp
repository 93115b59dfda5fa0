#include "aggregator/fleet.hpp"

#include "aggregator/detail/trace_file.hpp"
#include "core/error.hpp"
#include "core/precision/device_kind.hpp"
#include "core/rng.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <span>

namespace dither {

namespace {

constexpr double kBitsOfMegabit = 1e6;

/// A part of a task that its device takes no time for is none.
double seconds_for(double amount, double rate) {
    return rate > 0 ? amount / rate : 0;
}

/// Log-normal around the kind's speed: that times e^(spread z), z standard normal.
double speed_of(const DeviceOptions& kind, std::uint32_t seed, std::uint32_t client) {
    if (kind.speed == 0 || kind.spread == 0)
        return kind.speed;
    std::array<float, 1> factor{};
    Stream({.seed = seed, .purpose = Purpose::device_speed, .client = client}).fill_normal(factor);
    factor[0] *= static_cast<float>(kind.spread);
    exponentials(factor, factor);
    return std::max(kind.speed * factor[0], std::numeric_limits<double>::min());  // 0 would be no time
}

}  // namespace

bool Fleet::is_described(const FederationOptions& federation) {
    const auto takes_time = [](const DeviceOptions& device) {
        return device.speed > 0 || device.uplink > 0 || device.downlink > 0 || device.dropout > 0;
    };
    return !federation.trace.devices.empty() || !federation.trace.availability.empty() ||
           std::ranges::any_of(federation.devices, takes_time);
}

Fleet::Fleet(const FederationOptions& federation, std::uint32_t seed, std::uint32_t needed)
    : kinds_(federation.devices), seed_(seed) {
    constexpr double kMost = std::numeric_limits<double>::infinity();
    constexpr std::array<TraceColumn, 4> kColumns{
        {{"speed", 0, kMost}, {"uplink", 0, kMost}, {"downlink", 0, kMost}, {"dropout", 0, 1}}};
    const auto& [devices, availability] = federation.trace;
    if (!devices.empty())
        for (const auto& [line, values] : read_trace(devices, kColumns))
            traced_.push_back({values[0], values[1], values[2], values[3]});
    const auto takes_none = [](const Power& power) {
        return power.speed == 0 && power.uplink == 0 && power.downlink == 0;
    };
    if (!devices.empty() && !availability.empty() && std::ranges::all_of(traced_, takes_none))
        throw InputError(
            fmt::format("{}: no device takes any time, so that it would stand still, and nobody come or go as "
                        "{} says",
                        devices, availability));
    if (!availability.empty())
        availability_ = Availability(availability);
    if (!traced_.empty() && availability_.devices() > traced_.size())
        throw InputError(fmt::format("{}: column device: device {} is not in {}, which has {}, counted from 0",
                                     availability, availability_.devices() - 1, devices, traced_.size()));
    deal(traced_.empty() ? availability_.devices() : traced_.size(), federation.clients, seed);
    if (availability_.most() < needed)
        throw InputError(
            fmt::format("{}: at most {} clients are there at a time, and a round asks {} (federation.cohort * "
                        "federation.over_select)",
                        availability, availability_.most(), needed));
}

void Fleet::deal(std::size_t devices, std::uint32_t clients, std::uint32_t seed) {
    order_.resize(devices);
    std::iota(order_.begin(), order_.end(), 0U);
    Stream({.seed = seed, .purpose = Purpose::device}).shuffle(order_);
    std::vector<std::uint32_t> counts(devices);
    for (std::size_t place = 0; place < devices && place < clients; ++place)
        counts[order_[place]] = static_cast<std::uint32_t>((clients - place - 1) / devices + 1);
    const auto named = static_cast<std::ptrdiff_t>(availability_.devices());
    const auto dealt = std::accumulate(counts.begin(), counts.begin() + named, std::uint32_t{0});
    availability_.count_clients([&](std::size_t device) { return counts[device]; }, clients - dealt);
}

Fleet::Power Fleet::power_of(std::uint32_t client) const {
    if (!traced_.empty())
        return traced_[device_of(client)];
    const DeviceOptions* kind = device_kind(kinds_, seed_, client);
    if (kind == nullptr)
        return {};
    return {.speed = speed_of(*kind, seed_, client),
            .uplink = kind->uplink,
            .downlink = kind->downlink,
            .dropout = kind->dropout};
}

SimulatedTime Fleet::time_of(std::uint32_t client, const TaskSize& task) const {
    const Power power = power_of(client);
    const double seconds = seconds_for(8 * task.download, kBitsOfMegabit * power.downlink) +
                           seconds_for(task.samples, power.speed) +
                           seconds_for(8 * task.upload, kBitsOfMegabit * power.uplink);
    const double ticks = seconds * SimulatedTime::period::den;
    const bool is_usual = ticks < static_cast<double>(kLongest.count());  // false for what is no number, too
    return is_usual ? SimulatedTime(static_cast<SimulatedTime::rep>(ticks)) : kLongest;
}

bool Fleet::drops_out(std::uint32_t client, std::uint32_t round) const {
    const double dropout = power_of(client).dropout;
    return dropout > 0 &&
           Stream({.seed = seed_, .purpose = Purpose::dropout, .client = client, .round = round}).uniform() < dropout;
}

bool Fleet::is_available(std::uint32_t client, SimulatedTime time) const {
    return is_always_available() || availability_.is_there(device_of(client), time);
}

}  // namespace dither
