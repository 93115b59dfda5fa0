// Whom a round asks, who of them is back when, and whose updates it counts: all that is known of a round's clients
// before any of them trains. With the devices of a simulation (aggregator/fleet.hpp) time is simulated, so that who
// takes part is a pure function of the job and of the bytes that the rounds before took, however fast and however many
// machines train.
#pragma once

#include "aggregator/availability.hpp"
#include "aggregator/sampling.hpp"
#include "core/config.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace dither {

/// A client whose update a round gives up before anybody trains.
struct Absence {
    std::uint32_t client = 0;
    std::string reason;
};

/// Clients are in ascending order.
struct Attendance {
    SimulatedTime begins{0};  ///< since the run began
    SimulatedTime ends{0};
    std::vector<std::uint32_t> asked;    ///< are sent the round's model
    std::vector<std::uint32_t> trained;  ///< of these, who really has to train: their updates may be needed
    std::vector<std::uint32_t> awaited;  ///< whose updates the round counts or gives up
    std::vector<Absence> lost;           ///< of these, those that it gives up
};

/// Bytes that a round's task takes on a client's link.
struct LinkLoad {
    double download = 0;
    double upload = 0;  ///< expected
};

/// Not thread-safe.
class Schedule {
public:
    using LoadOf = std::function<LinkLoad(std::uint32_t client)>;

    virtual ~Schedule() = default;

    /// Whether simulated time counts, and federation.deadline is of that.
    virtual bool is_timed() const = 0;
    /// Whom round `round` asks if it may begin `now`, as far as that is known before its model is encoded: everybody,
    /// or, where rounds are asynchronous, nobody.
    virtual std::vector<std::uint32_t> clients(std::uint32_t round, SimulatedTime now) = 0;
    /// Round by round; `now`: when the one before ended.
    virtual Attendance attend(std::uint32_t round, SimulatedTime now, const LoadOf& load_of) = 0;
    /// Whoever still trains from an earlier round's model does so in vain.
    virtual void forget() {}
};

/// `samples_of`: how many samples a client of a simulation trains on in an epoch; null: real nodes, whose time and
/// samples nobody knows.
///
/// Synchronous: asks cohort * over_select clients of those that are available, which begins when so many are. Who drops
/// out, comes after federation.deadline, or after `cohort` others were back (the lower client first of two that are
/// back together), is given up and does not train. The round ends when its last participant is back; where fewer than
/// the cohort are, at the deadline, if there is one.
///
/// Asynchronous (FedBuff: Nguyen et al., "Federated learning with buffered asynchronous aggregation", AISTATS 2022):
/// async.concurrency clients train at a time; whenever one is back, another one is asked that does not train, has not
/// been back in this round and is available, with the model as it is then. The round ends when `cohort` updates are in.
/// A client that drops out, is slower than federation.deadline (of a task) or whose model is more than async.staleness
/// rounds old when it is back gives its place to another, and its round gives it up. When nobody is left to ask, the
/// round waits for whoever becomes available, a period of the trace at most, and ends with what it has.
///
/// Throws InputError as Fleet does.
std::unique_ptr<Schedule> make_schedule(const Job& job, ClientSampler::SamplesOf samples_of);

}  // namespace dither
