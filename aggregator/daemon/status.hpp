// What the daemon says of itself while it runs: JSON for people and scripts, Prometheus' text format for monitoring.
#pragma once

#include "aggregator/daemon/http.hpp"
#include "aggregator/server.hpp"
#include "transport/tcp.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

namespace dither {

/// Thread-safe: the server's thread tells it what happens, the HTTP server's asks.
class Status {
public:
    /// `connections` is asked whenever someone asks; callable from any thread.
    Status(const Job& job, std::function<HubStatistics()> connections);

    void show(const Progress& progress);
    /// The run goes no further: "the run is complete", "stopping".
    void end(std::string why);

    /// /metrics, /status and /healthz; nothing for other paths.
    std::optional<HttpPage> page(std::string_view path) const;

private:
    std::string json() const;
    std::string metrics() const;
    std::string state() const;

    std::string name_;
    std::uint32_t rounds_;
    std::function<HubStatistics()> connections_;

    mutable std::mutex mutex_;  ///< guards all below
    std::uint32_t round_ = 0;
    std::uint32_t arrived_ = 0;
    std::uint32_t cohort_;
    std::uint64_t committed_ = 0;
    std::uint64_t abandoned_ = 0;
    std::uint64_t accepted_ = 0;
    std::uint64_t rejected_ = 0;
    std::uint64_t dropped_ = 0;
    std::uint64_t bytes_up_ = 0;
    std::uint64_t bytes_down_ = 0;
    std::optional<double> accuracy_;   ///< of the last evaluation
    std::optional<RoundRecord> last_;  ///< the round that ended last
    std::string ended_;
};

}  // namespace dither
