// The aggregator's loop: one thread between the hub, the round and the disk.
#pragma once

#include "aggregator/journal.hpp"
#include "aggregator/makers.hpp"
#include "aggregator/record.hpp"
#include "aggregator/registry.hpp"
#include "aggregator/run_folder.hpp"
#include "core/compute/backend.hpp"
#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/model/model.hpp"
#include "transport/hub.hpp"

#include <atomic>
#include <functional>
#include <string>

namespace dither {

/// What the server tells whoever watches: once when a client's update is in, and once a round.
struct Progress {
    std::uint32_t round = 0;    ///< the one that runs, or that has just ended
    std::uint32_t arrived = 0;  ///< updates of its cohort
    std::uint32_t cohort = 0;
    const RoundRecord* ended = nullptr;  ///< set when the round has ended
    const Schema* schema = nullptr;      ///< likewise: of the layers that it speaks of
};
using ProgressCallback = std::function<void(const Progress&)>;

struct ServerSetup {
    const Job& job;
    const Dataset& test;
    ModelInput input;  ///< max_batch is that of evaluation
    const Backend& backend;
    Hub& hub;
    RunFolder& folder;
    std::uint32_t peers = 1;                  ///< how many peers to wait for before the first round
    const std::atomic<bool>* stop = nullptr;  ///< set by a signal handler: finish nothing, keep the last checkpoint
    /// Where accepted updates are kept until their round is committed, and acknowledged only then; null: an update that
    /// was accepted before a crash is asked for again.
    Journal* journal = nullptr;
    Registry* registry = nullptr;  ///< of the nodes that speak for a client; null: each speaks for the one it names
    /// What operators should know, a line each: who joins, is lost or refused, what is replayed; null: nobody is told.
    std::function<void(const std::string& line)> log;
    ProgressCallback progress;
    /// Of a simulation: how many samples a client trains on in an epoch, by which its time on its device is simulated,
    /// clients are drawn and tasks handed out; null: nodes are real, and federation.devices only says what they
    /// execute.
    std::function<std::uint64_t(std::uint32_t client)> samples_of;
    /// What deadlines and seconds are measured by, unless they are simulated; a test, or a simulated network, brings
    /// its own.
    std::function<Clock::time_point()> now = Clock::now;
    RunPlace place;
    ServerMakers makers{};  ///< of parts that a job has no word for
};

struct RunResult {
    RunTotals totals;
    Sha256 model{};
    bool interrupted = false;
};

/// Runs the job from its start, or from the folder's checkpoint if `resume`, and writes everything that a run leaves
/// but the pictures. A peer's failure is met, not thrown: its tasks go to other peers that can do them. Throws
/// InputError on a checkpoint of another job, IoError when the disk fails, TrainingError when three rounds in a row
/// cannot commit (for another reason than nodes that may return), or one diverges (by more than the guard's verdict,
/// which can be wrong) although every layer already trains in fp32 and no earlier model is left to go back to. A run
/// that gave up and is resumed tries the round that it gave up on again, with the same count behind it. However it
/// ends, the hub is closed; the peers are told why, unless they return and the run is not complete: then the next
/// process expects them.
RunResult run_server(const ServerSetup& setup, bool resume);

}  // namespace dither
