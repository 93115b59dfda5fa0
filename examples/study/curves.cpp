#include "examples/study/curves.hpp"

#include <algorithm>
#include <limits>
#include <optional>

#include "examples/study/statistics.hpp"

namespace dither {
namespace {

using nlohmann::json;

/// One number of each round of a run, in its order; absent where it has none.
std::vector<std::optional<double>> column(const std::vector<json>& rounds, const std::string& key, bool cumulated) {
    const std::vector<JsonStep> steps = parse_json_steps(key);
    std::vector<std::optional<double>> values;
    double sum = 0;
    for (const json& round : rounds) {
        const auto value = number_at(round, steps);
        sum += value.value_or(0);
        values.push_back(cumulated ? std::optional(sum) : value);
    }
    return values;
}

/// Row `i` of every column; nothing if a value is absent.
std::optional<std::vector<double>> row_of(const std::vector<std::vector<std::optional<double>>>& columns,
                                          std::size_t i) {
    std::vector<double> row;
    for (const auto& values : columns) {
        if (!values[i])
            return std::nullopt;
        row.push_back(*values[i]);
    }
    return row;
}

}  // namespace

const Curves::Rounds& Curves::rounds_of(const std::string& cell) {
    const auto found = read_.find(cell);
    return found != read_.end() ? found->second
                                : read_.emplace(cell, folder_.cell(cell, study_).read(true).rounds).first->second;
}

std::vector<const Curves::Rounds*> Curves::runs_of(std::size_t method, std::size_t point) {
    std::vector<const Rounds*> runs;
    for (const Result& result : results_)
        if (result.row.method == method && result.row.point == point && result.state == RowState::done)
            runs.push_back(&rounds_of(result.row.cell));
    return runs;
}

std::vector<CurvePoint> Curves::mean_curve(std::size_t method, std::size_t point, const std::string& key,
                                           const std::string& over, bool cumulated) {
    std::vector<std::vector<std::optional<double>>> xs, ys;
    std::size_t length = std::numeric_limits<std::size_t>::max();
    for (const Rounds* run : runs_of(method, point)) {
        xs.push_back(column(*run, over, cumulated));
        ys.push_back(column(*run, key, false));
        length = std::min(length, run->size());
    }
    std::vector<CurvePoint> curve;
    for (std::size_t i = 0; !xs.empty() && i < length; ++i) {
        const auto x = row_of(xs, i);
        const auto y = row_of(ys, i);
        if (x && y)
            curve.push_back({mean(*x), mean(*y), deviation(*y).value_or(0)});
    }
    return curve;
}

const std::vector<json>& Curves::first_run(std::size_t method) {
    static const Rounds kNone;
    const auto runs = runs_of(method, 0);
    return runs.empty() ? kNone : *runs.front();
}

}  // namespace dither
