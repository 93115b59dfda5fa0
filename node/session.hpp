// A node's conversation with the aggregator: hello, welcome, then one task after the other until it is told to stop.
#pragma once

#include "core/data/dataset.hpp"
#include "core/precision/device.hpp"
#include "transport/hub.hpp"

#include <string>

namespace dither {

struct SessionSetup {
    std::string node;                   ///< [a-z0-9_-]{1,64}
    std::uint32_t client = kAnyClient;  ///< the client it speaks for; kAnyClient hosts every client of a simulation
    /// Overrides the job's data.path. Empty keeps it, which only ranks of one simulation may: they share the
    /// aggregator's files. A daemon always passes its own, for no path comes from a peer.
    std::string data_path;
    /// The folder for what error feedback keeps of clients (node/residual_store.hpp). Empty: `clients` in the job's
    /// output.dir, which only ranks of one simulation may use, for the same reason.
    std::string state;
    const Dataset* data = nullptr;  ///< the training set, if it is already in memory; null loads it
    Device device{};                ///< what this node executes, as it tells the aggregator; by default everything
};

/// Loads the data when the job arrives, trains what it is asked to, and returns when the aggregator says stop or is
/// gone. A task that fails, for whatever reason, is reported and does not end the session; a session that speaks for
/// one client refuses another's. Returns the node's device with the speed that it trained at last, for the next
/// session's setup. Throws InputError when the job or its data cannot be used here, IoError when the
/// channel fails.
Device run_session(Channel& channel, const SessionSetup& setup);

}  // namespace dither
