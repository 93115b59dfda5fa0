// A node that was let in, and does its work as any other until it lies about it.
#pragma once

#include "node/session.hpp"
#include "tests/chaos/line.hpp"

#include <optional>
#include <string>

namespace dither::hostile {

class Member {
public:
    /// Says hello and hears the welcome. Throws if it is not let in. Without data it cannot work().
    explicit Member(const Setting& setting);

    Line& line() { return line_; }
    const std::string& job() const { return job_; }
    /// Of the last work().
    const RoundPlan& plan() const { return plan_; }
    /// The honest answer to the next plan, which is not said; nothing once the run is complete.
    std::optional<Update> work();
    /// What the aggregator says to an update; throws away what it says before.
    UpdateAck hear_verdict();

private:
    Message hear();

    Line line_;
    std::optional<Session> session_;
    std::string job_;
    RoundPlan plan_;
};

}  // namespace dither::hostile
