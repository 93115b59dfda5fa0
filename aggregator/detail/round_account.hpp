// What a round's reports add up to. Private to the aggregator.
#pragma once

#include "aggregator/combination.hpp"
#include "aggregator/record.hpp"
#include "aggregator/strategy.hpp"
#include "core/config.hpp"
#include "core/model/model.hpp"

#include <span>
#include <vector>

namespace dither {

/// Enters into the record what its participants report: statistics, losses, scores, work, time. Work is counted from
/// the plan that each of them ran. The reports are sorted in place.
void account(const Job& job, const Model& model, std::vector<WeightedReport>& reports, RoundRecord& record);
/// What the strategy must know of the reports' updates.
std::vector<Contribution> contributions(std::span<const WeightedReport> reports);

}  // namespace dither
