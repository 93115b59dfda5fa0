// What simulated federations train: tiny jobs on made-up samples, a few milliseconds each.
#pragma once

#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/precision/device.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace dither::simulation {

struct Workload {
    std::uint32_t number = 0;
    Job job;
    std::vector<Dataset> data;    ///< of each node: its own samples
    std::vector<Device> devices;  ///< likewise: what it executes
    Dataset test;

    /// "linear, 5 clients, cohort 4, 3 rounds, fedavg, numgeom, up topk, down grid (delta)"
    std::string describe() const;
    bool keeps_residuals() const;  ///< a node's updates follow from its own files, too
};

inline constexpr std::uint32_t kWorkloads = 96;

/// number < kWorkloads. `lenient`: rounds end at a deadline, by a quorum, or by the first of more clients than needed;
/// else each waits for its whole cohort.
Workload make_workload(std::uint32_t number, bool lenient);

}  // namespace dither::simulation
