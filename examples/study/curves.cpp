#include "examples/study/curves.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <optional>
#include <utility>

#include "examples/study/statistics.hpp"

namespace dither {
namespace {

using nlohmann::json;

using Column = std::vector<std::optional<double>>;

/// One number of each round of a run, in its order; absent where it has none.
Column column(const std::vector<json>& rounds, const std::string& key) {
    const std::vector<JsonStep> steps = parse_json_steps(key);
    Column values;
    for (const json& round : rounds)
        values.push_back(number_at(round, steps));
    return values;
}

/// The sum of the keys in each round, or in all rounds so far, where absent numbers count as none.
Column sum_of(const std::vector<json>& rounds, const std::vector<std::string>& keys, bool cumulated) {
    Column sums(rounds.size(), 0.0);
    for (const std::string& key : keys) {
        const Column values = column(rounds, key);
        for (std::size_t i = 0; i < sums.size(); ++i)
            if (!values[i] && !cumulated)
                sums[i] = std::nullopt;
            else if (sums[i])
                sums[i] = *sums[i] + values[i].value_or(0);
    }
    for (std::size_t i = 1; cumulated && i < sums.size(); ++i)
        sums[i] = *sums[i] + *sums[i - 1];
    return sums;
}

/// The numbers of a list; empty if there is none, or something else in it.
std::vector<double> numbers_in(const json* list) {
    if (list == nullptr || !list->is_array() ||
        !std::ranges::all_of(*list, [](const json& value) { return value.is_number(); }))
        return {};
    return list->get<std::vector<double>>();
}

/// With the value before in place of an absent one.
Column filled(Column values) {
    for (std::size_t i = 1; i < values.size(); ++i)
        if (!values[i])
            values[i] = values[i - 1];
    return values;
}

/// Row `i` of every column; nothing if a value is absent.
std::optional<std::vector<double>> row_of(const std::vector<Column>& columns, std::size_t i) {
    std::vector<double> row;
    for (const auto& values : columns) {
        if (!values[i])
            return std::nullopt;
        row.push_back(*values[i]);
    }
    return row;
}

}  // namespace

std::vector<Point> pair_with_next(Column x, Column y) {
    x = filled(std::move(x));
    y = filled(std::move(y));
    std::vector<Point> points;
    for (std::size_t next = 1; next < y.size(); ++next)
        if (x[next - 1] && y[next])
            points.push_back({*x[next - 1], *y[next]});
    return points;
}

const CellRecord& Curves::record_of(const std::string& cell) {
    const auto found = read_.find(cell);
    return found != read_.end() ? found->second
                                : read_.emplace(cell, folder_.cell(cell, study_).read(true)).first->second;
}

std::vector<const CellRecord*> Curves::runs_of(std::size_t method, std::size_t point) {
    std::vector<const CellRecord*> runs;
    for (const Result& result : results_)
        if (result.row.method == method && result.row.point == point && result.state == RowState::done)
            runs.push_back(&record_of(result.row.cell));
    return runs;
}

std::vector<CurvePoint> Curves::mean_curve(std::size_t method, std::size_t point, const std::string& key,
                                           const std::vector<std::string>& over, bool cumulated) {
    std::vector<Column> xs, ys;
    std::size_t length = std::numeric_limits<std::size_t>::max();
    for (const CellRecord* run : runs_of(method, point)) {
        xs.push_back(sum_of(run->rounds, over, cumulated));
        ys.push_back(column(run->rounds, key));
        length = std::min(length, run->rounds.size());
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

const std::vector<json>& Curves::first_run(std::size_t method, std::size_t point) {
    static const std::vector<json> kNone;
    const auto runs = runs_of(method, point);
    return runs.empty() ? kNone : runs.front()->rounds;
}

std::vector<double> Curves::mean_list(std::size_t method, std::size_t point, const MetricPath& path) {
    std::vector<double> sum;
    double runs = 0;
    for (const CellRecord* run : runs_of(method, point)) {
        const std::vector<double> list = numbers_in(find_value(path, *run));
        if (list.empty() || (!sum.empty() && list.size() != sum.size()))
            return {};
        sum.resize(list.size());
        std::ranges::transform(list, sum, sum.begin(), std::plus());
        ++runs;
    }
    for (double& value : sum)
        value /= runs;
    return sum;
}

void Curves::check(std::size_t method, std::size_t point, const MetricPath& path) {
    for (const CellRecord* run : runs_of(method, point))
        check_path(path, *run);
}

std::map<std::string, std::vector<Point>> Curves::layer_points(std::size_t method, std::size_t point,
                                                               const std::string& x, const std::string& y) {
    std::map<std::string, std::vector<Point>> points;
    for (const CellRecord* run : runs_of(method, point)) {
        const std::size_t layers = run->rounds.empty() ? 0 : run->rounds.front().value("layers", json::array()).size();
        for (std::size_t i = 0; i < layers; ++i) {
            const std::string layer = fmt::format("layers[{}].", i);
            const std::vector<Point> pairs =
                pair_with_next(column(run->rounds, layer + x), column(run->rounds, layer + y));
            auto& own = points[run->rounds.front().at("layers")[i].value("name", layer)];
            own.insert(own.end(), pairs.begin(), pairs.end());
        }
    }
    return points;
}

}  // namespace dither
