// What a cohort's held-out samples say of its models: federated evaluation.
#pragma once

#include "aggregator/combination.hpp"

#include <cstdint>
#include <optional>
#include <span>

namespace dither {

/// The value below which `share`, 0..1, of the values lie, by linear interpolation between the two that are next to
/// it (Hyndman and Fan, "Sample quantiles in statistical packages", The American Statistician 50(4), 1996, type 7).
/// ascending: at least one.
double quantile(std::span<const double> ascending, double share);

/// One number over clients, each with one vote.
struct Spread {
    double mean = 0;
    double weighted_mean = 0;  ///< by the clients' held-out samples
    double p10 = 0;
    double p50 = 0;
    double p90 = 0;
    double min = 0;
    double max = 0;

    bool operator==(const Spread&) const = default;
};

/// What the clients of a round measured on the samples that they hold back: claims of theirs, like all that they report
/// but the update.
struct ClientScores {
    std::uint32_t count = 0;                  ///< clients
    std::uint64_t samples = 0;                ///< that they evaluated on
    std::optional<Spread> accuracy;           ///< of the model that the round began with; absent for regression
    std::optional<Spread> personal_accuracy;  ///< of each client's own model after its training; likewise
    Spread loss;
    Spread personal_loss;

    bool operator==(const ClientScores&) const = default;
};

/// Nothing where no report has a score. The reports are in ascending order of clients, so that no order of arrival
/// shows. `labelled`: samples have labels, not targets.
std::optional<ClientScores> client_scores(std::span<const WeightedReport> reports, bool labelled);

}  // namespace dither
