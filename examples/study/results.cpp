#include "examples/study/results.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/error.hpp"

namespace dither {
namespace {

using Json = nlohmann::ordered_json;  // keys as they are written down

bool is_of_rounds(const std::optional<MetricPath>& path) {
    return path && (path->source == MetricSource::round || path->source == MetricSource::rounds);
}

Result failed(Result result, std::string why) {
    result.state = RowState::failed;
    result.failure = std::move(why);
    return result;
}

/// Of a cell, whichever row it answers.
Result read_result(const Study& study, const CellFolder& folder) {
    Result result{.values = std::vector<std::optional<double>>(study.metrics.size())};
    const CellState state = folder.state();
    if (state == CellState::failed)
        return failed(std::move(result), folder.failure_text());
    if (state != CellState::done)
        return result;
    try {
        const CellRecord record = folder.read(needs_rounds(study));
        result.seconds = record.summary.value("seconds", 0.0);
        result.model = record.summary.value("model_sha256", "");
        result.cpu = record.summary.value("cpu", "");
        std::vector<std::optional<double>> values;
        for (const Metric& metric : study.metrics)
            values.push_back(measure(metric, record));
        result.values = std::move(values);
        result.state = RowState::done;
        return result;
    } catch (const FormatError& error) {
        return failed(std::move(result), error.what());
    } catch (const nlohmann::json::exception& error) {
        return failed(std::move(result), error.what());
    }
}

Json json_value(const std::string& toml) {
    Json value = Json::parse(toml, nullptr, false);  // numbers, strings, booleans and lists of them are JSON, too
    return value.is_discarded() ? Json(toml) : value;
}

std::string csv_field(const std::string& text) {
    if (text.find_first_of(",\"\n\r") == std::string::npos)
        return text;
    std::string quoted = "\"";
    for (const char c : text)
        quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    return quoted + '"';
}

std::string csv_value(const std::string& toml) {
    const Json value = json_value(toml);
    return csv_field(value.is_string() ? value.get<std::string>() : toml);
}

}  // namespace

bool needs_rounds(const Study& study) {
    return std::ranges::any_of(study.metrics, [](const Metric& metric) {
        return is_of_rounds(metric.from) || is_of_rounds(metric.plus) || is_of_rounds(metric.minus) ||
               is_of_rounds(metric.over);
    });
}

std::optional<double> measure(const Metric& metric, const CellRecord& cell) {
    const auto from = value_of(metric.from, cell);
    const auto plus = metric.plus ? value_of(*metric.plus, cell) : std::optional(0.0);
    const auto minus = metric.minus ? value_of(*metric.minus, cell) : std::optional(0.0);
    const auto over = metric.over ? value_of(*metric.over, cell) : std::optional(1.0);
    if (!from || !plus || !minus || !over)
        return std::nullopt;
    const double value = metric.scale * (*from + *plus - *minus) / *over;
    return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

std::vector<Result> collect_results(const Study& study, const StudyPlan& plan, const StudyFolder& folder) {
    std::map<std::string, Result> by_cell;
    for (const Cell& cell : plan.cells)
        by_cell.emplace(cell.hash, read_result(study, folder.cell(cell.hash, study)));
    std::vector<Result> results;
    for (const Row& row : plan.rows) {
        Result result{.values = std::vector<std::optional<double>>(study.metrics.size())};
        results.push_back(row.cell.empty() ? failed(std::move(result), row.problem) : by_cell.at(row.cell));
        results.back().row = row;
    }
    return results;
}

std::string to_jsonl(const Study& study, const std::vector<Result>& results) {
    std::string text;
    for (const Result& result : results) {
        Json line{{"method", study.methods[result.row.method].name}};
        for (const GridValue& value : study.grid_point(result.row.point))
            line["grid"][value.key] = json_value(value.text);
        line["seed"] = result.row.seed;
        for (std::size_t i = 0; i < study.metrics.size(); ++i)
            line["metrics"][study.metrics[i].name] = result.values[i] ? Json(*result.values[i]) : Json(nullptr);
        line["hash"] = result.row.cell;
        line["model_sha256"] = result.model;
        line["seconds"] = result.seconds;
        line["failed"] = result.state == RowState::done      ? Json(nullptr)
                         : result.state == RowState::missing ? Json("not run")
                                                             : Json(result.failure);
        text += line.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
    }
    return text;
}

std::string to_csv(const Study& study, const std::vector<Result>& results) {
    std::string text = "method";
    for (const Axis& axis : study.grid)
        text += ',' + csv_field(axis.key);
    text += ",seed";
    for (const Metric& metric : study.metrics)
        text += ',' + csv_field(metric.name);
    text += ",hash,seconds,failed\n";
    for (const Result& result : results) {
        text += csv_field(study.methods[result.row.method].name);
        for (const GridValue& value : study.grid_point(result.row.point))
            text += ',' + csv_value(value.text);
        text += fmt::format(",{}", result.row.seed);
        for (const auto& value : result.values)
            text += value ? fmt::format(",{}", *value) : ",";
        const std::string failure = result.state == RowState::missing ? "not run" : result.failure;
        text += fmt::format(",{},{},{}\n", result.row.cell, result.seconds, csv_field(failure));
    }
    return text;
}

}  // namespace dither
