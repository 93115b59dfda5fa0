#include "aggregator/detail/asynchronous_schedule.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace dither {

namespace {

void sort(Attendance& attendance) {
    std::ranges::sort(attendance.asked);
    std::ranges::sort(attendance.trained);
    std::ranges::sort(attendance.awaited);
    std::ranges::sort(attendance.lost, {}, &Absence::client);
}

}  // namespace

AsynchronousSchedule::AsynchronousSchedule(const Job& job, ClientSampler::SamplesOf samples_of)
    : job_(job), roster_(job, std::move(samples_of)) {}

// Where a round ends with fewer than its buffer, all clients that are ever available have been in it: no fewer than a
// cohort, so that its quorum can be judged.
Attendance AsynchronousSchedule::attend(std::uint32_t round, SimulatedTime now, const LoadOf& load_of) {
    Attendance attendance{.begins = now, .ends = now};
    SimulatedTime& time = attendance.ends;
    busy_.clear();
    for (const Task& task : in_flight_)
        busy_.insert(task.client);
    draws_ = 0;
    nobody_until_ = SimulatedTime::min();
    for (std::uint32_t counted = 0; counted < job_.federation.cohort;) {
        fill(round, time, load_of, attendance);
        if (in_flight_.empty() && !wait(round, time, load_of, attendance))
            break;
        counted += end_next(round, time, attendance) ? 1 : 0;
    }
    sort(attendance);
    if (round == job_.job.rounds)  // what would come later is of no use
        std::erase_if(attendance.trained,
                      [&](std::uint32_t client) { return !std::ranges::binary_search(attendance.awaited, client); });
    return attendance;
}

void AsynchronousSchedule::forget() {
    in_flight_.clear();
}

void AsynchronousSchedule::fill(std::uint32_t round, SimulatedTime now, const LoadOf& load_of, Attendance& attendance) {
    const auto places = job_.federation.async.concurrency - static_cast<std::uint32_t>(in_flight_.size());
    const auto eligible = [&](std::uint32_t client) {
        return !busy_.contains(client) && roster_.is_available(client, now);
    };
    const std::uint32_t draw = draws_++;
    if (places == 0 || now < nobody_until_)
        return;
    const std::vector<std::uint32_t> drawn = roster_.sampler().draw(round, draw, places, eligible);
    for (const std::uint32_t client : drawn)
        begin(client, round, now, load_of(client), attendance);
    if (drawn.size() < places)
        nobody_until_ = next_arrival(now);
}

SimulatedTime AsynchronousSchedule::next_arrival(SimulatedTime now) const {
    if (!roster_.fleet() || roster_.fleet()->is_always_available())
        return SimulatedTime::max();
    return roster_.fleet()->availability().next_change(now);
}

void AsynchronousSchedule::begin(std::uint32_t client, std::uint32_t round, SimulatedTime now, const LinkLoad& load,
                                 Attendance& attendance) {
    const SimulatedTime deadline = job_.federation.deadline;
    const SimulatedTime takes = roster_.time_of(client, load);
    const bool is_late = deadline.count() > 0 && takes > deadline;
    const bool answers = !is_late && !roster_.drops_out(client, round);
    in_flight_.insert({now + (is_late ? deadline : takes), ++begun_, client, round, answers});
    busy_.insert(client);
    attendance.asked.push_back(client);
    if (answers)
        attendance.trained.push_back(client);
}

bool AsynchronousSchedule::wait(std::uint32_t round, SimulatedTime& now, const LoadOf& load_of,
                                Attendance& attendance) {
    if (!roster_.fleet() || roster_.fleet()->is_always_available())
        return false;
    const Availability& availability = roster_.fleet()->availability();
    const SimulatedTime until = now + availability.period();
    for (auto time = availability.next_change(now); time <= until; time = availability.next_change(time)) {
        fill(round, time, load_of, attendance);
        if (in_flight_.empty())
            continue;
        now = time;
        return true;
    }
    return false;
}

bool AsynchronousSchedule::end_next(std::uint32_t round, SimulatedTime& now, Attendance& attendance) {
    const Task task = in_flight_.extract(in_flight_.begin()).value();
    now = task.ends;
    attendance.awaited.push_back(task.client);
    std::string problem = problem_of(task, round);
    if (problem.empty())
        return true;
    attendance.lost.push_back({task.client, std::move(problem)});
    return false;
}

std::string AsynchronousSchedule::problem_of(const Task& task, std::uint32_t round) const {
    if (!task.answers)
        return roster_.drops_out(task.client, task.round) ? "it dropped out" : "it was slower than federation.deadline";
    const std::uint32_t staleness = round - task.round;
    return staleness > job_.federation.async.staleness
               ? fmt::format("it started from the model {} rounds before", staleness)
               : "";
}

}  // namespace dither
