// What goes wrong in one simulated federation, and when: drawn from its seed.
#pragma once

#include "transport/simulated.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace dither::simulation {

struct Disaster {
    enum class Kind : std::uint8_t {
        node_crash,        ///< back after `length`
        cut,               ///< of the node's connection
        isolation,         ///< of the node, for `length`
        partition,         ///< every second node, for `length`
        aggregator_crash,  ///< at a time
        aggregator_stop,   ///< by a signal: it ends by itself
        disk_full,         ///< for `length`
        failed_sync,       ///< the next one
    };
    Kind kind = Kind::cut;
    Clock::duration at{0};
    Clock::duration length{0};
    std::size_t node = 0;
};

/// Beside the honest nodes, one for each client.
struct Company {
    bool stranger = false;  ///< says what no node may say
    bool twin = false;      ///< a second node with the identity and data of node 0
    bool deserter = false;  ///< node 0 leaves for ever
    double lies = 0;        ///< chance that an honest node's update is preceded by a false one
    double failures = 0;    ///< chance that a client does not train in a round
    double straggling = 0;  ///< chance that a training takes a minute
};

/// A value; equal seeds give equal scenarios.
struct Scenario {
    std::uint32_t seed = 0;
    std::uint32_t workload = 0;
    bool lenient = false;        ///< deadlines, quorums, over-selection: who takes part depends on what goes wrong
    bool assigned = false;       ///< nodes leave to the aggregator for which client they speak
    bool proven = false;         ///< connections prove identities
    bool waits_for_all = false;  ///< before its first round, the aggregator does
    LinkFaults link;
    Clock::duration most_delay{0};
    Clock::duration faults_end{0};  ///< nothing goes wrong from then on
    std::vector<Disaster> disasters;
    double crash_chance = 0;         ///< of each process of the aggregator: to die in one of its first calls
    std::uint32_t crash_within = 1;  ///< so many calls
    double power_loss = 0;           ///< chance that a crash takes what was not synced
    Company company;

    /// Nothing goes wrong.
    static Scenario calm(std::uint32_t workload, bool lenient);
    static Scenario drawn(std::uint32_t seed);
    std::string describe() const;
};

}  // namespace dither::simulation
