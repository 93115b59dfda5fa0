// A node's conversation with the aggregator: hello, welcome, then one task after the other until it is told to stop.
#pragma once

#include "core/data/dataset.hpp"
#include "transport/hub.hpp"

#include <string>

namespace dither {

struct SessionSetup {
    std::string node;                   ///< [a-z0-9_-]{1,64}
    std::uint32_t client = kAnyClient;  ///< the client it speaks for; kAnyClient hosts every client of a simulation
    std::string data_path;              ///< overrides the job's data.path; empty keeps it
    const Dataset* data = nullptr;      ///< the training set, if it is already in memory; null loads it
};

/// Loads the data when the job arrives, trains what it is asked to, and returns when the aggregator says stop or is
/// gone. A task that fails (no samples, NaN) is reported and does not end the session. Throws InputError when the job
/// or its data cannot be used here.
void run_session(Channel& channel, const SessionSetup& setup);

}  // namespace dither
