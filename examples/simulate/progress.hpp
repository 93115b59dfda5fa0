// The face of a run on a terminal: a live bar while it trains, a plain line a round where there is no terminal, and a
// table at its end.
#pragma once

#include <cstdint>
#include <string>

#include "aggregator/record.hpp"
#include "aggregator/server.hpp"
#include "core/config.hpp"

namespace dither {

/// Writes to stderr: a line for each round, and beneath it why the plan changed or the round was lost, the first
/// reasons of it. One thread uses it.
class ProgressDisplay {
public:
    /// `live`: redraw one line in place (a terminal); otherwise one line a round. `first_round`: rounds before it were
    /// done by an earlier run and do not count for the time that is left.
    ProgressDisplay(std::uint32_t rounds, bool live);
    ~ProgressDisplay();

    void show(const Progress& progress);

private:
    void end_round(const RoundRecord& record, const Schema& schema);
    void draw(const Progress& progress);
    std::string time_left() const;

    std::uint32_t rounds_;
    bool live_;
    bool drawn_ = false;
    std::string last_;  ///< what the last ended round showed
    std::uint32_t ended_ = 0;
    std::uint32_t last_round_ = 0;
    double seconds_ = 0;
    std::uint64_t bytes_ = 0;
    double simulated_seconds_ = 0;
};

/// What a person wants to know at the end: accuracy, bytes and bit-operations against fp32, time.
std::string result_table(const Job& job, const RunResult& result, const RunPlace& place);

}  // namespace dither
