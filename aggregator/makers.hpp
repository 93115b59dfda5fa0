// Who makes what a job's words name at the aggregator.
#pragma once

#include "aggregator/strategy.hpp"
#include "core/precision/policy.hpp"
#include "transport/makers.hpp"

#include <functional>
#include <memory>

namespace dither {

/// Like Makers. What the aggregator alone needs may be any program's own, whatever the nodes are: they follow the
/// plans and the models.
struct ServerMakers {
    Makers shared;  ///< as the nodes have them
    std::function<std::unique_ptr<Policy>(const PrecisionOptions&, const Schema&)> policy = make_policy;
    std::function<std::unique_ptr<Strategy>(const Job&, const Schema&)> strategy = make_strategy;
};

}  // namespace dither
