// The command line of dither-node.
#pragma once

#include "node/daemon/limits.hpp"
#include "transport/messages.hpp"
#include "transport/tcp.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace dither {

struct NodeOptions {
    TcpChannelOptions connection;
    std::string data;
    std::filesystem::path state;
    std::string id;                          ///< empty: the certificate's, else the state folder's, else made
    std::uint32_t client = kAssignedClient;  ///< that it asks to speak for
    ResourceLimits limits;
    std::vector<int> widths;          ///< that it executes, ascending; empty: all
    std::uint64_t step_memory = 0;    ///< bytes that a training step may take; 0: not said
    std::uint64_t uplink_budget = 0;  ///< bytes a day; 0: not metered
    bool check = false;               ///< do not join, only see whether it could
    std::string log_level;            ///< spdlog's name of it
};

/// Empty when the program should go on, `options` filled; otherwise its exit code. Prints help, version or what is
/// wrong.
std::optional<int> parse_command_line(int argc, char** argv, NodeOptions& options);

}  // namespace dither
