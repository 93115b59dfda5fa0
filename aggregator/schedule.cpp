#include "aggregator/schedule.hpp"

#include "aggregator/detail/asynchronous_schedule.hpp"
#include "aggregator/detail/roster.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace dither {

namespace {

double seconds(SimulatedTime time) {
    return std::chrono::duration<double>(time).count();
}

/// Borrows the job.
class SynchronousSchedule final : public Schedule {
public:
    SynchronousSchedule(const Job& job, ClientSampler::SamplesOf samples_of)
        : job_(job), roster_(job, std::move(samples_of)) {}

    bool is_timed() const override { return roster_.fleet().has_value(); }
    std::vector<std::uint32_t> clients(std::uint32_t round, SimulatedTime now) override;
    Attendance attend(std::uint32_t round, SimulatedTime now, const LoadOf& load_of) override;

private:
    struct Return {
        SimulatedTime after{0};  ///< since the round began
        std::uint32_t client = 0;
        auto operator<=>(const Return&) const = default;
    };

    /// Of those that are asked and answer, the first one first; who does not is lost.
    std::vector<Return> returns(std::uint32_t round, const LoadOf& load_of, Attendance& attendance) const;
    /// Whoever is back too late is lost, too; when the round ends, since it began.
    SimulatedTime close(const std::vector<Return>& returns, Attendance& attendance) const;

    const Job& job_;
    Roster roster_;
};

std::vector<std::uint32_t> SynchronousSchedule::clients(std::uint32_t round, SimulatedTime now) {
    if (roster_.is_plain())
        return clients_of_round(job_, round);
    const SimulatedTime begins = roster_.first_gathering(now);
    auto drawn = roster_.sampler().draw(round, 0, asked_in_a_round(job_.federation),
                                        [&](std::uint32_t client) { return roster_.is_available(client, begins); });
    std::ranges::sort(drawn);
    return drawn;
}

Attendance SynchronousSchedule::attend(std::uint32_t round, SimulatedTime now, const LoadOf& load_of) {
    Attendance attendance{.begins = roster_.first_gathering(now)};
    attendance.asked = attendance.awaited = clients(round, now);
    attendance.ends = attendance.begins;
    if (!is_timed()) {
        attendance.trained = attendance.asked;
        return attendance;
    }
    attendance.ends += close(returns(round, load_of, attendance), attendance);
    std::ranges::sort(attendance.trained);
    std::ranges::sort(attendance.lost, {}, &Absence::client);
    return attendance;
}

std::vector<SynchronousSchedule::Return> SynchronousSchedule::returns(std::uint32_t round, const LoadOf& load_of,
                                                                      Attendance& attendance) const {
    std::vector<Return> back;
    for (const std::uint32_t client : attendance.asked)
        if (roster_.drops_out(client, round))
            attendance.lost.push_back({client, "it dropped out"});
        else
            back.push_back({roster_.time_of(client, load_of(client)), client});
    std::ranges::sort(back);
    return back;
}

SimulatedTime SynchronousSchedule::close(const std::vector<Return>& returns, Attendance& attendance) const {
    const SimulatedTime deadline = job_.federation.deadline;
    SimulatedTime last{0};
    for (const auto& [after, client] : returns) {
        const bool is_full = attendance.trained.size() == job_.federation.cohort;
        if (is_full) {
            attendance.lost.push_back({client, "as many as the round takes were back before"});
        } else if (deadline.count() > 0 && after > deadline) {
            attendance.lost.push_back({client, fmt::format("it would have been back after {:.6g} s", seconds(after))});
        } else {
            attendance.trained.push_back(client);
            last = after;
        }
    }
    const bool is_waited_for = deadline.count() > 0 && attendance.trained.size() < job_.federation.cohort;
    return is_waited_for ? deadline : last;
}

}  // namespace

std::unique_ptr<Schedule> make_schedule(const Job& job, ClientSampler::SamplesOf samples_of) {
    if (job.federation.async.concurrency > 0)
        return std::make_unique<AsynchronousSchedule>(job, std::move(samples_of));
    return std::make_unique<SynchronousSchedule>(job, std::move(samples_of));
}

}  // namespace dither
