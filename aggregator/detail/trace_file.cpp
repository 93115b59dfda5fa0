#include "aggregator/detail/trace_file.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include <fmt/ranges.h>

namespace dither {

namespace {

std::string_view trim(std::string_view text) {
    constexpr std::string_view kBlanks = " \t\r";
    const std::size_t first = text.find_first_not_of(kBlanks);
    return first == std::string_view::npos ? "" : text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::vector<std::string_view> fields_of(std::string_view line) {
    std::vector<std::string_view> fields;
    for (std::size_t start = 0; start <= line.size();) {
        const std::size_t end = std::min(line.find(',', start), line.size());
        fields.push_back(trim(line.substr(start, end - start)));
        start = end + 1;
    }
    return fields;
}

std::optional<double> number_in(std::string_view field) {
    double value = 0;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    const bool is_whole = error == std::errc() && end == field.data() + field.size();
    return is_whole ? std::optional(value) : std::nullopt;
}

void check_header(const std::string& file, std::size_t number, std::span<const std::string_view> fields,
                  std::span<const TraceColumn> columns) {
    std::vector<std::string_view> names;
    for (const TraceColumn& column : columns)
        names.push_back(column.name);
    if (!std::ranges::equal(fields, names))
        throw InputError(fmt::format("{}:{}: expected the header {}, found {}", file, number, fmt::join(names, ","),
                                     fmt::join(fields, ",")));
}

std::string expected_of(const TraceColumn& column) {
    return std::isinf(column.most) ? fmt::format("a finite number of at least {}", column.least)
                                   : fmt::format("a number within {} .. {}", column.least, column.most);
}

TraceRow row_of(const std::string& file, std::size_t number, std::span<const std::string_view> fields,
                std::span<const TraceColumn> columns) {
    if (fields.size() != columns.size())
        throw InputError(
            fmt::format("{}:{}: expected {} fields, found {}", file, number, columns.size(), fields.size()));
    TraceRow row{.line = number, .values = {}};
    for (std::size_t i = 0; i < columns.size(); ++i) {
        const TraceColumn& column = columns[i];
        const auto value = number_in(fields[i]);
        if (!value || !std::isfinite(*value) || *value < column.least || *value > column.most)
            throw InputError(fmt::format("{}:{}: column {}: expected {}, found \"{}\"", file, number, column.name,
                                         expected_of(column), fields[i]));
        row.values.push_back(*value);
    }
    return row;
}

}  // namespace

std::vector<TraceRow> read_trace(const std::string& file, std::span<const TraceColumn> columns) {
    std::ifstream in(file);
    if (!std::filesystem::is_regular_file(file) || !in)
        throw InputError(fmt::format("{}: expected a CSV file, and there is none to read", file));
    std::vector<TraceRow> rows;
    std::string line;
    bool has_header = false;
    for (std::size_t number = 1; std::getline(in, line); ++number) {
        if (trim(line).empty())
            continue;
        const std::vector<std::string_view> fields = fields_of(line);
        if (std::exchange(has_header, true))
            rows.push_back(row_of(file, number, fields, columns));
        else
            check_header(file, number, fields, columns);
    }
    if (in.bad())
        throw InputError(fmt::format("{}: cannot be read to its end", file));
    if (rows.empty())
        throw InputError(fmt::format("{}: expected at least one row beneath the header", file));
    return rows;
}

}  // namespace dither
