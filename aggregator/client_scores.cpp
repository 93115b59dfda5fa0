#include "aggregator/client_scores.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace dither {

namespace {

Spread spread_of(std::span<const HeldOutScore> scores, float HeldOutScore::*member) {
    std::vector<double> values;
    double sum = 0;
    double weighted = 0;
    double weight = 0;
    for (const HeldOutScore& score : scores) {
        const double value = score.*member;
        values.push_back(value);
        sum += value;
        weighted += static_cast<double>(score.samples) * value;
        weight += static_cast<double>(score.samples);
    }
    std::ranges::sort(values);
    return {.mean = sum / static_cast<double>(values.size()),
            .weighted_mean = weighted / weight,
            .p10 = quantile(values, 0.1),
            .p50 = quantile(values, 0.5),
            .p90 = quantile(values, 0.9),
            .min = values.front(),
            .max = values.back()};
}

}  // namespace

double quantile(std::span<const double> ascending, double share) {
    require(!ascending.empty() && share >= 0 && share <= 1, "the {} quantile of {} values", share, ascending.size());
    const double place = share * static_cast<double>(ascending.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, ascending.size() - 1);
    return ascending[below] + (place - std::floor(place)) * (ascending[above] - ascending[below]);
}

std::optional<ClientScores> client_scores(std::span<const WeightedReport> reports, bool labelled) {
    std::vector<HeldOutScore> scores;
    for (const WeightedReport& report : reports)
        if (report.report.held_out.samples > 0)
            scores.push_back(report.report.held_out);
    if (scores.empty())
        return std::nullopt;
    ClientScores result{.count = static_cast<std::uint32_t>(scores.size()),
                        .loss = spread_of(scores, &HeldOutScore::loss),
                        .personal_loss = spread_of(scores, &HeldOutScore::personal_loss)};
    for (const HeldOutScore& score : scores)
        result.samples += score.samples;
    if (labelled) {
        result.accuracy = spread_of(scores, &HeldOutScore::accuracy);
        result.personal_accuracy = spread_of(scores, &HeldOutScore::personal_accuracy);
    }
    return result;
}

}  // namespace dither
