#include "aggregator/availability.hpp"

#include "aggregator/detail/trace_file.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

namespace dither {

namespace {

constexpr double kMostDevices = 1U << 22;
constexpr double kMostSeconds = 1e9;  // 31 years

SimulatedTime time_of(double seconds) {
    return SimulatedTime(static_cast<SimulatedTime::rep>(std::round(seconds * 1e6)));
}

}  // namespace

Availability::Availability(const std::string& file) {
    constexpr std::array<TraceColumn, 3> kColumns{
        {{"device", 0, kMostDevices - 1}, {"from", 0, kMostSeconds}, {"until", 0, kMostSeconds}}};
    std::vector<std::vector<Interval>> named;
    for (const TraceRow& row : read_trace(file, kColumns)) {
        const auto device = static_cast<std::size_t>(row.values[0]);
        const Interval interval{time_of(row.values[1]), time_of(row.values[2])};
        if (static_cast<double>(device) != row.values[0])
            throw InputError(
                fmt::format("{}:{}: column device: expected a whole number, found {}", file, row.line, row.values[0]));
        if (interval.from >= interval.until)
            throw InputError(fmt::format("{}:{}: column until: expected more than {}, which is from, found {}", file,
                                         row.line, row.values[1], row.values[2]));
        named.resize(std::max(named.size(), device + 1));
        named[device].push_back(interval);
        period_ = std::max(period_, interval.until);
    }
    for (std::vector<Interval>& intervals : named) {
        first_.push_back(intervals_.size());
        if (intervals.empty())
            intervals.push_back({SimulatedTime{0}, period_});
        std::ranges::sort(intervals, {}, &Interval::from);
        for (const Interval& interval : intervals) {
            if (intervals_.size() > first_.back() && interval.from <= intervals_.back().until)
                intervals_.back().until = std::max(intervals_.back().until, interval.until);
            else
                intervals_.push_back(interval);
        }
    }
    first_.push_back(intervals_.size());
}

bool Availability::is_there(std::size_t device, SimulatedTime time) const {
    if (device >= devices())
        return true;
    const SimulatedTime phase = time % period_;
    const auto begin = intervals_.begin() + static_cast<std::ptrdiff_t>(first_[device]);
    const auto end = intervals_.begin() + static_cast<std::ptrdiff_t>(first_[device + 1]);
    const auto after = std::upper_bound(begin, end, phase,
                                        [](SimulatedTime t, const Interval& interval) { return t < interval.from; });
    return after != begin && phase < std::prev(after)->until;
}

void Availability::count_clients(const std::function<std::uint32_t(std::size_t)>& clients, std::uint32_t others) {
    std::map<SimulatedTime, std::int64_t> differences{{SimulatedTime{0}, others}};
    for (std::size_t device = 0; device < devices(); ++device) {
        const std::int64_t count = clients(device);
        for (std::size_t i = first_[device]; i < first_[device + 1]; ++i) {
            differences[intervals_[i].from] += count;
            if (intervals_[i].until < period_)
                differences[intervals_[i].until] -= count;
        }
    }
    changes_.clear();
    std::int64_t there = 0;
    for (const auto& [time, difference] : differences)
        changes_.push_back({time, static_cast<std::uint32_t>(there += difference)});
}

std::uint32_t Availability::most() const {
    return std::ranges::max(changes_, {}, &Change::clients).clients;
}

std::size_t Availability::change_at(SimulatedTime phase) const {
    return static_cast<std::size_t>(std::ranges::upper_bound(changes_, phase, {}, &Change::time) - changes_.begin()) -
           1;
}

SimulatedTime Availability::first_with(std::uint32_t clients, SimulatedTime time) const {
    require(clients <= most(), "{} clients are never there, at most {}", clients, most());
    if (devices() == 0)
        return time;
    SimulatedTime base = time - time % period_;
    std::size_t at = change_at(time % period_);
    if (changes_[at].clients >= clients)
        return time;
    while (changes_[at].clients < clients)
        if (++at == changes_.size()) {
            at = 0;
            base += period_;
        }
    return base + changes_[at].time;
}

SimulatedTime Availability::next_change(SimulatedTime time) const {
    require(devices() > 0, "nobody comes or goes");
    const SimulatedTime phase = time % period_;
    const std::size_t next = change_at(phase) + 1;
    return time - phase + (next < changes_.size() ? changes_[next].time : period_);
}

}  // namespace dither
