#include "examples/study/comparison.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/little_endian.hpp"
#include "core/sha256.hpp"

namespace dither {
namespace {

/// The same resamples for every method and grid point, so that equal values have equal intervals.
StreamKey key_of(const Study& study, std::size_t metric) {
    const Sha256 digest = sha256(fmt::format("{}\n{}", study.name, study.metrics[metric].name));
    const auto word = [&](std::size_t i) {
        return load_little<std::uint32_t>(std::as_bytes(std::span(digest)).data() + 4 * i);
    };
    return {.seed = word(0), .purpose = Purpose::evaluation, .client = word(1), .round = word(2), .step = word(3)};
}

const Result& result_at(const Study& study, const std::vector<Result>& results, std::size_t method, std::size_t point,
                        std::size_t seed) {
    return results[(method * study.grid_points() + point) * study.seeds.size() + seed];
}

MethodSummary summarize(const Study& study, std::size_t metric, const std::vector<Result>& results, std::size_t method,
                        std::size_t point) {
    MethodSummary summary{.method = method, .point = point};
    for (std::size_t seed = 0; seed < study.seeds.size(); ++seed) {
        const Result& result = result_at(study, results, method, point, seed);
        if (result.values[metric])
            summary.values.push_back(*result.values[metric]);
        else
            ++(result.state == RowState::failed ? summary.failed : summary.missing);
    }
    if (!summary.values.empty())
        summary.mean = mean(summary.values);
    summary.deviation = deviation(summary.values);
    summary.interval = bootstrap_interval(summary.values, key_of(study, metric));
    return summary;
}

/// a - b without the rounding of binary numbers, to 12 digits of the larger one: 0.85 - 0.84 is 0.83 - 0.82, as ties
/// and deviations should have it.
double subtract(double a, double b) {
    constexpr int kBits = 40;
    const double larger = std::max(std::abs(a), std::abs(b));
    if (larger == 0)
        return 0;
    const int exponent = std::ilogb(larger) - kBits;
    return std::ldexp(std::nearbyint(std::ldexp(a - b, -exponent)), exponent);
}

std::optional<Difference> subtract_baseline(const Study& study, std::size_t metric, const std::vector<Result>& results,
                                            const MethodSummary& summary) {
    std::vector<double> differences;
    for (std::size_t seed = 0; seed < study.seeds.size(); ++seed) {
        const auto& own = result_at(study, results, summary.method, summary.point, seed).values[metric];
        const auto& base = result_at(study, results, study.baseline, summary.point, seed).values[metric];
        if (own && base)
            differences.push_back(subtract(*own, *base));
    }
    if (summary.method == study.baseline || differences.empty())
        return std::nullopt;
    return Difference{.pairs = differences.size(),
                      .mean = mean(differences),
                      .interval = bootstrap_interval(differences, key_of(study, metric)),
                      .t_test = paired_t_test(differences),
                      .wilcoxon = wilcoxon_test(differences),
                      .dz = cohens_dz(differences)};
}

void correct(std::vector<MethodSummary>& summaries) {
    std::vector<Difference*> tested;
    std::vector<double> p_values;
    for (MethodSummary& summary : summaries)
        if (summary.difference && summary.difference->t_test) {
            tested.push_back(&*summary.difference);
            p_values.push_back(*summary.difference->t_test);
        }
    const std::vector<double> adjusted = holm(p_values);
    for (std::size_t i = 0; i < tested.size(); ++i)
        tested[i]->t_test_holm = adjusted[i];
}

}  // namespace

std::vector<MethodSummary> compare(const Study& study, std::size_t metric, const std::vector<Result>& results) {
    std::vector<MethodSummary> summaries;
    for (std::size_t point = 0; point < study.grid_points(); ++point)
        for (std::size_t method = 0; method < study.methods.size(); ++method) {
            summaries.push_back(summarize(study, metric, results, method, point));
            summaries.back().difference = subtract_baseline(study, metric, results, summaries.back());
        }
    correct(summaries);
    return summaries;
}

std::string short_text(const GridValue& value) {
    return fmt::format("{} = {}", value.key.substr(value.key.rfind('.') + 1), value.text);
}

std::string point_label(const Study& study, std::size_t point) {
    std::string label;
    for (const GridValue& value : study.grid_point(point))
        label += (label.empty() ? "" : ", ") + short_text(value);
    return label;
}

}  // namespace dither
