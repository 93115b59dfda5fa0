// Whether a node could join: what --check looks at.
#pragma once

#include "node/daemon/options.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace dither {

struct Finding {
    std::string subject;  ///< "data", "state", "certificate", "clock", "aggregator"
    bool good = false;
    std::string text;  ///< what was found, or what is wrong
};

using WallTime = std::chrono::system_clock::time_point;

/// Whichever format it is in: the job says that, and the job comes later.
Finding check_data(const std::string& path);
/// Locks the folder and writes to it.
Finding check_state(const std::filesystem::path& folder);
/// The key is the certificate's, the time is within its validity, it names one node: `id`, if that is not empty.
Finding check_certificate(const TlsFiles& files, const std::string& id, WallTime now);
/// Not before the certificate's begin: a device without a battery starts in the past.
Finding check_clock(const TlsFiles* files, WallTime now);
/// It answers, each end takes the other's certificate; it is told nothing.
Finding check_aggregator(const TcpChannelOptions& options);

/// All of them, in this order.
std::vector<Finding> check_node(const NodeOptions& options, WallTime now);

}  // namespace dither
