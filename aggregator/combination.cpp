#include "aggregator/combination.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

namespace dither {

namespace {

/// What one client says, and its weight.
struct Weighted {
    double value = 0;
    double weight = 0;
};

bool is_measured(float value) {
    return value >= 0 && std::isfinite(value);
}

/// Of a member, the lower one of two: one vote a client, whatever weight it claims.
double median_of(std::vector<Weighted> values, double Weighted::*member) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
    std::ranges::nth_element(values, middle, {}, member);
    return (*middle).*member;
}

void clip(std::span<Weighted> values, double median, double median_weight) {
    for (Weighted& v : values) {
        v.value = std::clamp(v.value, median / kClipFactor, median * kClipFactor);
        v.weight = std::min(v.weight, median_weight * kClipFactor);
    }
}

double largest(std::span<const Weighted> values) {
    return std::ranges::max(values, {}, &Weighted::value).value;
}

/// Of the squares' mean, the root, where `squares`.
double mean(std::span<const Weighted> values, bool squares) {
    double sum = 0;
    double weight = 0;
    for (const Weighted& v : values) {
        sum += v.weight * (squares ? v.value * v.value : v.value);
        weight += v.weight;
    }
    return squares ? std::sqrt(sum / weight) : sum / weight;
}

/// values: at least one, in ascending order of clients.
double combine_values(std::vector<Weighted> values, Combine rule, Combination combination) {
    if (combination != Combination::mean) {
        const double median = median_of(values, &Weighted::value);
        if (combination == Combination::median)
            return median;
        clip(values, median, median_of(values, &Weighted::weight));
    }
    return rule == Combine::largest ? largest(values) : mean(values, rule == Combine::root_mean_square);
}

LayerStatistics combine_layer(std::span<const WeightedReport> reports, std::size_t layer, Combination combination) {
    std::vector<std::vector<Weighted>> measured;
    for (const WeightedReport& report : reports) {
        std::size_t index = 0;
        for_each_statistic(report.report.layers[layer], [&](const char*, float value, Combine) {
            if (index == measured.size())
                measured.emplace_back();
            if (is_measured(value) && report.weight > 0)
                measured[index].push_back({value, static_cast<double>(report.weight)});
            ++index;
        });
    }
    LayerStatistics combined;
    std::size_t index = 0;
    for_each_statistic(combined, [&](const char*, float& value, Combine rule) {
        if (index < measured.size() && !measured[index].empty())
            value = static_cast<float>(combine_values(std::move(measured[index]), rule, combination));
        ++index;
    });
    return combined;
}

/// Of a number that each report says once; nothing where none of them is measured.
std::optional<double> mean_of(const std::vector<WeightedReport>& reports, float TrainingReport::*member,
                              Combination combination) {
    std::vector<const WeightedReport*> ordered;
    for (const WeightedReport& report : reports)
        ordered.push_back(&report);
    std::ranges::sort(ordered, {}, [](const WeightedReport* report) { return report->client; });
    std::vector<Weighted> measured;
    for (const WeightedReport* report : ordered)
        if (const float value = report->report.*member; is_measured(value) && report->weight > 0)
            measured.push_back({value, static_cast<double>(report->weight)});
    if (measured.empty())
        return std::nullopt;
    return combine_values(std::move(measured), Combine::mean, combination);
}

}  // namespace

Combination combination_of(std::string_view name) {
    constexpr std::array<std::pair<std::string_view, Combination>, 3> kNames{
        {{"mean", Combination::mean}, {"clipped", Combination::clipped}, {"median", Combination::median}}};
    const auto found = std::ranges::find(kNames, name, [](const auto& entry) { return entry.first; });
    if (found == kNames.end())
        throw InputError(fmt::format("precision.combine is \"{}\", expected mean, clipped or median", name));
    return found->second;
}

std::vector<LayerStatistics> combine(std::vector<WeightedReport>& reports, std::size_t layers,
                                     Combination combination) {
    std::ranges::sort(reports, {}, &WeightedReport::client);
    for (const WeightedReport& report : reports)
        require(report.report.layers.size() == layers, "client {} reports {} layers, expected {}", report.client,
                report.report.layers.size(), layers);
    std::vector<LayerStatistics> combined;
    combined.reserve(layers);
    for (std::size_t layer = 0; layer < layers; ++layer)
        combined.push_back(combine_layer(reports, layer, combination));
    return combined;
}

double combine_train_loss(const std::vector<WeightedReport>& reports, Combination combination) {
    require(!reports.empty(), "the training loss of no reports");
    return mean_of(reports, &TrainingReport::train_loss, combination)
        .value_or(std::numeric_limits<double>::quiet_NaN());
}

std::optional<double> combine_update_nmse(const std::vector<WeightedReport>& reports, Combination combination) {
    return mean_of(reports, &TrainingReport::update_nmse, combination);
}

double combine_payload_bytes(const std::vector<WeightedReport>& reports, Combination combination) {
    require(!reports.empty(), "the payloads of no client");
    std::vector<Weighted> bytes;
    for (const WeightedReport& report : reports)
        bytes.push_back({static_cast<double>(report.payload_bytes), 1});
    return combine_values(std::move(bytes), Combine::mean, combination);
}

}  // namespace dither
