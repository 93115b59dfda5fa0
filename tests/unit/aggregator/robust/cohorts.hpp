// Cohorts of updates for tests of rules.
#pragma once

#include "aggregator/robust/cohort.hpp"
#include "aggregator/robust/rule.hpp"
#include "core/config.hpp"
#include "core/rng.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace dither::test {

using Updates = std::vector<std::vector<float>>;

inline Updates normal_updates(std::size_t clients, std::size_t parameters, std::uint32_t seed = 1) {
    Updates updates(clients, std::vector<float>(parameters));
    for (std::uint32_t client = 0; client < clients; ++client)
        Stream(StreamKey{.seed = seed, .purpose = Purpose::test, .client = client}).fill_normal(updates[client]);
    return updates;
}

inline Cohort cohort_of(const Updates& updates) {
    return {std::vector<UpdateRow>(updates.begin(), updates.end()), std::vector<std::uint64_t>(updates.size(), 1)};
}

/// A rule for cohorts of so many clients, so many of which may lie.
inline FederationOptions federation_of(const std::string& rule, std::size_t cohort, std::size_t faulty,
                                       bool mixing = false) {
    FederationOptions federation;
    federation.clients = federation.cohort = static_cast<std::uint32_t>(cohort);
    federation.aggregation = {
        .kind = rule, .faulty = static_cast<double>(faulty) / static_cast<double>(cohort), .mixing = mixing};
    return federation;
}

inline std::vector<float> combined(const FederationOptions& federation, const Updates& updates) {
    Cohort cohort = cohort_of(updates);
    std::vector<float> out(updates.front().size());
    make_robust_rule(federation)->combine(cohort, out);
    return out;
}

inline double distance(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (std::size_t j = 0; j < a.size(); ++j)
        sum += std::pow(static_cast<double>(a[j]) - b[j], 2);
    return std::sqrt(sum);
}

inline double diameter(std::span<const std::vector<float>> updates) {
    double largest = 0;
    for (const auto& a : updates)
        for (const auto& b : updates)
            largest = std::max(largest, distance(a, b));
    return largest;
}

}  // namespace dither::test
