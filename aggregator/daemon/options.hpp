// The command line of dither-aggregator.
#pragma once

#include "transport/tcp.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace dither {

struct DaemonOptions {
    std::string job;
    std::vector<std::string> overrides;
    std::string data;  ///< overrides the job's data.path; empty: keeps it
    std::filesystem::path state;
    TcpHubOptions hub;
    std::optional<Endpoint> http;  ///< none: no HTTP
    std::uint32_t nodes = 0;       ///< to wait for before the first round; 0: the job's cohort
    bool fresh = false;            ///< refuse to continue what `state` holds
    std::string log_level;
};

/// Empty when the program should go on, `options` filled; otherwise its exit code. Prints help, version or what is
/// wrong.
std::optional<int> parse_command_line(int argc, char** argv, DaemonOptions& options);

}  // namespace dither
