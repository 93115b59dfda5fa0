#include "tests/simulation/reference.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace dither::simulation {

namespace {

constexpr std::size_t kRemembered = 4096;

Attendance attendance_of(const Outcome& outcome) {
    Attendance attendance;
    for (const EndedRound& round : outcome.rounds)
        attendance.push_back(round.participants);
    return attendance;
}

}  // namespace

const Outcome& Reference::fault_free(const Workload& workload, bool lenient, const Outcome& outcome) {
    Key key{workload.number, lenient, attendance_of(outcome), outcome.clients};
    if (const auto known = known_.find(key); known != known_.end())
        return known->second;
    if (known_.size() >= kRemembered)
        known_.erase(known_.begin());
    const Scenario calm = Scenario::calm(workload.number, lenient);
    Federation federation(workload, calm, state_, nullptr);
    federation.prescribe(attendance_of(outcome), outcome.clients);
    return known_.emplace(std::move(key), federation.run()).first->second;
}

std::vector<std::string> Reference::differences(const Workload& workload, const Scenario& scenario,
                                                const Outcome& outcome) {
    const Outcome& expected = fault_free(workload, scenario.lenient, outcome);
    std::vector<std::string> differences;
    for (const std::string& violation : expected.violations)
        differences.push_back("without faults: " + violation);
    if (expected.rounds != outcome.rounds) {
        const auto at = std::ranges::mismatch(expected.rounds, outcome.rounds).in1 - expected.rounds.begin();
        differences.push_back(fmt::format("round {} gives another model than without faults", at + 1));
    }
    return differences;
}

}  // namespace dither::simulation
