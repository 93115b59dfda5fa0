// What a round asks, of whom. Private to the aggregator.
#pragma once

#include "aggregator/detail/broadcast.hpp"
#include "aggregator/norm_bound.hpp"
#include "aggregator/round.hpp"
#include "aggregator/schedule.hpp"
#include "core/config.hpp"
#include "core/precision/policy.hpp"
#include "transport/messages.hpp"

#include <chrono>
#include <cstdint>
#include <vector>

namespace dither {

struct RoundOrder {
    Attendance clients;
    std::vector<Probe> probes;           ///< of each of those that train
    std::vector<std::uint32_t> counted;  ///< likewise, RunState::counted
    RoundRules rules;
    NormBound bound;                        ///< of the updates' norms
    std::chrono::milliseconds deadline{0};  ///< real time; 0: wait for all
    RoundPlan task;                         ///< the broadcast's
    const Broadcast* broadcast = nullptr;   ///< of this round; borrowed until the next run()
};

/// Of a round that awaits at least a cohort.
RoundRules rules_of(const FederationOptions& federation);

}  // namespace dither
