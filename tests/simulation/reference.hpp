// What the rounds of a simulated federation must have given: those of a fault-free one in which the same clients take
// part.
#pragma once

#include "tests/simulation/federation.hpp"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace dither::simulation {

/// Remembers fault-free runs: most federations of a workload lead to the same one.
class Reference {
public:
    explicit Reference(std::filesystem::path state) : state_(std::move(state)) {}

    /// What differs, or should not have happened at all; nothing: all is as it should be.
    std::vector<std::string> differences(const Workload& workload, const Scenario& scenario, const Outcome& outcome);
    std::size_t runs() const { return known_.size(); }

private:
    using Key = std::tuple<std::uint32_t, bool, Attendance, std::vector<std::uint32_t>>;

    const Outcome& fault_free(const Workload& workload, bool lenient, const Outcome& outcome);

    std::filesystem::path state_;
    std::map<Key, Outcome> known_;
};

}  // namespace dither::simulation
