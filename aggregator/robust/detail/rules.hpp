// Every rule's constructor, for make_robust_rule. faulty: f, how many of the updates may lie.
#pragma once

#include "aggregator/robust/rule.hpp"
#include "core/config.hpp"

#include <cstdint>
#include <memory>

namespace dither {

std::unique_ptr<RobustRule> make_mean(std::uint32_t faulty, const AggregationOptions& options);
std::unique_ptr<RobustRule> make_median(std::uint32_t faulty, const AggregationOptions& options);
std::unique_ptr<RobustRule> make_trimmed_mean(std::uint32_t faulty, const AggregationOptions& options);
std::unique_ptr<RobustRule> make_krum(std::uint32_t faulty, const AggregationOptions& options);
std::unique_ptr<RobustRule> make_multi_krum(std::uint32_t faulty, const AggregationOptions& options);
std::unique_ptr<RobustRule> make_bulyan(std::uint32_t faulty, const AggregationOptions& options);
std::unique_ptr<RobustRule> make_geometric_median(std::uint32_t faulty, const AggregationOptions& options);
std::unique_ptr<RobustRule> make_centered_clipping(std::uint32_t faulty, const AggregationOptions& options);

}  // namespace dither
