// The federation's statistics, from what its clients say of themselves.
#pragma once

#include "core/model/schema.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/policy.hpp"
#include "core/precision/statistics.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace dither {

/// One client's report, with the weight of its update.
struct WeightedReport {
    std::uint32_t client = 0;
    std::uint32_t round = 0;  ///< whose model it started from
    std::uint64_t weight = 0;
    TrainingReport report;
    Probe probe = Probe::none;  ///< that it was asked for
    PrecisionPlan plan;         ///< that it ran
    std::size_t payload_bytes = 0;
    double update_norm = 0;  ///< Euclidean, of what the payload decodes to: measured, not claimed
};

/// precision.combine.
enum class Combination : std::uint8_t { mean, clipped, median };
/// Throws InputError on an unknown name.
Combination combination_of(std::string_view name);

/// Values beyond this factor of their median are taken as that far from it, and weights above this factor of theirs.
inline constexpr double kClipFactor = 4;

/// Weighted means of what was measured (root mean squares for norms and errors; the maximum for update_range), summed
/// in ascending order of clients, so that no order of arrival shows. Values below 0 or not finite count as not
/// measured. `clipped` first brings each value within kClipFactor of the clients' median, so that a minority of them
/// cannot move the result further than that, and no weight counts for more than kClipFactor of the median weight;
/// `median` is the median itself, the lower one of two (Yin, Chen, Kannan, Bartlett, "Byzantine-robust distributed
/// learning: towards optimal statistical rates", ICML 2018). In a median each client has one vote: its weight is its
/// own claim. The reports are sorted in place. `layers` entries.
std::vector<LayerStatistics> combine(std::vector<WeightedReport>& reports, std::size_t layers, Combination combination);
/// Likewise their training loss, of those that are >= 0 and finite, NaN where none is; at least one report.
double combine_train_loss(const std::vector<WeightedReport>& reports, Combination combination);
/// Likewise the error of their whole updates, of those that measured it; nothing where none has.
std::optional<double> combine_update_nmse(const std::vector<WeightedReport>& reports, Combination combination);
/// Likewise what a payload takes, each client counting once: no minority moves the grids of all. At least one report.
double combine_payload_bytes(const std::vector<WeightedReport>& reports, Combination combination);

}  // namespace dither
