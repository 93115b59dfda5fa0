// One simulated federation: the production server, journal, registry and sessions, a world that follows a scenario, and
// the promises that are checked on the way.
#pragma once

#include "aggregator/checkpoint.hpp"
#include "core/compute/backend.hpp"
#include "core/sha256.hpp"
#include "tests/simulation/nodes.hpp"
#include "tests/simulation/scenario.hpp"
#include "tests/simulation/simulated_disk.hpp"
#include "tests/simulation/workload.hpp"
#include "transport/simulated.hpp"

#include <atomic>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace dither::simulation {

/// What became durable at the end of a round.
struct EndedRound {
    std::set<std::uint32_t> participants;  ///< none: it was abandoned
    Sha256 model{};
    bool operator==(const EndedRound&) const = default;
};

/// For each round, who takes part in it.
using Attendance = std::vector<std::set<std::uint32_t>>;

struct Outcome {
    std::vector<EndedRound> rounds;
    std::vector<std::uint32_t> clients;   ///< of each node
    std::vector<std::string> violations;  ///< of what the aggregator promises; none: it has kept its word
    Clock::duration length{0};            ///< virtual
    std::uint32_t processes = 0;          ///< of the aggregator
    std::uint32_t acknowledged = 0;       ///< updates
    std::uint32_t refused = 0;            ///< likewise
};

/// Runs once. `state`: a folder of its own for what nodes keep; removed at the end.
class Federation {
public:
    using Trace = std::function<void(const std::string& line)>;

    Federation(const Workload& workload, const Scenario& scenario, std::filesystem::path state, Trace trace);
    ~Federation();
    Federation(const Federation&) = delete;
    Federation& operator=(const Federation&) = delete;

    /// Before run(): nothing but this attendance is left to chance, nodes speak for these clients.
    void prescribe(Attendance attendance, std::vector<std::uint32_t> clients);
    Outcome run();

private:
    class WatchedHub;

    void populate();
    void plan_disasters();
    void strike(const Disaster& disaster);
    void run_aggregator();
    void serve();
    void name_the_rest();
    bool goes_wrong() const { return network_.elapsed() < scenario_.faults_end; }
    void note(const std::string& line) const;
    /// Whether each round can have its whole cohort, and must wait for it.
    bool must_be_whole() const { return attendance_.empty() && !scenario_.lenient && !disk_.has_been_full(); }

    // What is checked.
    void on_sent(const Message& message);
    void on_replaced(const std::string& name, const std::string& bytes);
    void on_round(const Checkpoint& checkpoint);
    void check_end();
    void check_log();
    void violated(const std::string& promise);

    const Workload& workload_;
    const Scenario& scenario_;
    std::filesystem::path state_;
    Trace trace_;
    Attendance attendance_;
    SimulatedNetwork network_;
    SimulatedDisk disk_;
    Stream stream_;  ///< of what befalls the aggregator
    std::unique_ptr<Backend> backend_;
    std::deque<NodeSetup> nodes_;
    std::vector<std::uint32_t> lives_;
    std::atomic<bool> stop_ = false;
    bool finished_ = false;
    bool overdue_ = false;
    std::map<std::uint32_t, std::set<std::uint32_t>> acknowledged_;  ///< clients, round by round
    std::map<std::uint32_t, Sha256> told_;                           ///< of each round, the model that nodes were told
    Outcome outcome_;
};

}  // namespace dither::simulation
