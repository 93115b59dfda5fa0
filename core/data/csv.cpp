#include "core/data/detail/groups.hpp"
#include "core/data/detail/readers.hpp"
#include "core/data/detail/tables.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

namespace dither::detail {
namespace {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

std::string_view trim(std::string_view text) {
    const std::size_t first = text.find_first_not_of(" \t\r");
    if (first == std::string_view::npos)
        return text.substr(0, 0);
    return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// The fields of a line without the blanks around them; they point into `line`.
void split_fields(std::string_view line, std::vector<std::string_view>& fields) {
    fields.clear();
    for (std::size_t start = 0; start <= line.size();) {
        const std::size_t end = std::min(line.find(',', start), line.size());
        fields.push_back(trim(line.substr(start, end - start)));
        start = end + 1;
    }
}

/// The value of a field, kMissing for one that says that there is none.
std::optional<double> parse_cell(std::string_view field) {
    constexpr std::array<std::string_view, 7> kAbsent{"", "?", "NA", "na", "NaN", "nan", "NAN"};
    return std::ranges::find(kAbsent, field) != kAbsent.end() ? kMissing : parse_number(field);
}

/// A header's names, without the quotes that may be around them.
std::vector<std::string> names_in(std::span<const std::string_view> fields) {
    std::vector<std::string> names;
    for (const std::string_view field : fields) {
        const bool quoted = field.size() >= 2 && field.front() == '"' && field.back() == '"';
        names.emplace_back(quoted ? field.substr(1, field.size() - 2) : field);
    }
    return names;
}

struct Table {
    std::string path;
    std::vector<std::string> header;  ///< empty if there is none
    std::size_t columns = 0;
    std::optional<std::size_t> group_column;
    std::vector<double> cells;        ///< [rows, columns]; kMissing in the column of the groups
    std::vector<std::string> groups;  ///< [rows], if there is such a column
    std::vector<std::size_t> lines;   ///< [rows], where each stands in the file

    std::size_t rows() const { return lines.size(); }
    double& at(std::size_t row, std::size_t column) { return cells[row * columns + column]; }
    double at(std::size_t row, std::size_t column) const { return cells[row * columns + column]; }
    std::string column_name(std::size_t column) const {
        return header.empty() ? fmt::format("{}", column + 1) : fmt::format("\"{}\"", header[column]);
    }
};

std::optional<std::size_t> find_column(const Table& table, const std::string& name) {
    const auto found = std::ranges::find(table.header, name);
    if (found == table.header.end())
        return std::nullopt;
    return static_cast<std::size_t>(found - table.header.begin());
}

void append_cell(Table& table, std::string_view line, std::size_t number, std::string_view field, std::size_t column) {
    if (column == table.group_column) {
        table.groups.emplace_back(field);
        table.cells.push_back(kMissing);
        return;
    }
    const std::optional<double> value = parse_cell(field);
    if (!value)
        throw InputError(fmt::format("{}:{}:{}: expected a finite number, found \"{}\" in column {}", table.path,
                                     number, field.data() - line.data() + 1, field, table.column_name(column)));
    table.cells.push_back(*value);
}

void append_row(Table& table, std::string_view line, std::size_t number, std::span<const std::string_view> fields) {
    if (fields.size() != table.columns)
        throw InputError(fmt::format("{}:{}: expected {} fields, as in the first line, found {}", table.path, number,
                                     table.columns, fields.size()));
    for (std::size_t column = 0; column < fields.size(); ++column)
        append_cell(table, line, number, fields[column], column);
    table.lines.push_back(number);
}

/// None is a number; a line that holds some is data, and its other fields are mistakes.
bool is_header(std::span<const std::string_view> fields) {
    return std::none_of(fields.begin(), fields.end(), [](std::string_view field) { return parse_number(field); });
}

Table read_table(const std::string& path, const std::string& groups) {
    std::ifstream file(path);
    if (!std::filesystem::is_regular_file(path) || !file)
        throw InputError(fmt::format("{}: expected a CSV file, and there is none to read", path));
    Table table{.path = path};
    std::string line;
    std::vector<std::string_view> fields;
    for (std::size_t number = 1; std::getline(file, line); ++number) {
        if (trim(line).empty())
            continue;
        split_fields(line, fields);
        const bool first = table.columns == 0;
        if (first)
            table.columns = fields.size();
        if (first && is_header(fields)) {
            table.header = names_in(fields);
            if (!groups.empty())
                table.group_column = find_column(table, groups);
        } else {
            append_row(table, line, number, fields);
        }
    }
    if (file.bad())
        throw InputError(fmt::format("{}: cannot be read to its end", path));
    if (table.columns < 2 || table.rows() < 2)
        throw InputError(fmt::format("{}: expected at least 2 columns and 2 rows of numbers, found {} and {}", path,
                                     table.columns, table.rows()));
    return table;
}

std::size_t label_column(const Table& table, const std::string& label) {
    if (label == "first")
        return 0;
    if (label == "last")
        return table.columns - 1;
    if (const std::optional<std::size_t> found = find_column(table, label))
        return *found;
    throw InputError(
        fmt::format("data.label: expected \"first\", \"last\" or a name in the header of {}{}, found \"{}\"",
                    table.path, table.header.empty() ? ", which has none" : "", label));
}

/// Of every row, into what the task takes.
struct Answers {
    std::vector<std::int32_t> labels;
    std::vector<float> targets;
};

Answers read_answers(const Table& table, std::size_t column, bool regression) {
    Answers answers;
    for (std::size_t row = 0; row < table.rows(); ++row) {
        const double value = table.at(row, column);
        if (std::isnan(value))
            throw InputError(fmt::format("{}:{}: expected a label in column {}, found none", table.path,
                                         table.lines[row], table.column_name(column)));
        if (regression) {
            answers.targets.push_back(static_cast<float>(value));
            continue;
        }
        if (value < 0 || value > std::numeric_limits<std::int32_t>::max() || value != std::floor(value))
            throw InputError(
                fmt::format("{}:{}: expected a label, an integer >= 0, found {}", table.path, table.lines[row], value));
        answers.labels.push_back(static_cast<std::int32_t>(value));
    }
    return answers;
}

std::vector<std::size_t> feature_columns(const Table& table, std::size_t label) {
    if (label == table.group_column)
        throw InputError(
            fmt::format("data.groups: column {} of {} is the label", table.column_name(label), table.path));
    std::vector<std::size_t> columns;
    for (std::size_t column = 0; column < table.columns; ++column)
        if (column != label && column != table.group_column)
            columns.push_back(column);
    if (columns.empty())
        throw InputError(fmt::format("{}: expected a column beside the label and the groups", table.path));
    return columns;
}

/// Of the values that are there.
double mean_of(const Table& table, std::span<const std::uint32_t> rows, std::size_t column) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    double sum = 0, low = kInfinity, high = -kInfinity;
    std::size_t count = 0;
    for (const std::uint32_t row : rows)
        if (const double value = table.at(row, column); !std::isnan(value)) {
            sum += value;
            low = std::min(low, value);
            high = std::max(high, value);
            ++count;
        }
    if (count == 0)
        throw InputError(
            fmt::format("{}: column {} has no value in any training row", table.path, table.column_name(column)));
    return std::clamp(sum / static_cast<double>(count), low, high);  // rounding leaves equal values
}

/// How many cells of the column got `value`.
std::size_t fill_column(Table& table, std::size_t column, double value) {
    std::size_t filled = 0;
    for (std::size_t row = 0; row < table.rows(); ++row)
        if (double& cell = table.at(row, column); std::isnan(cell)) {
            cell = value;
            ++filled;
        }
    return filled;
}

/// What is missing becomes the mean of its column, the one that the column is standardized by. Returns notes on it.
std::vector<std::string> fill_missing(Table& table, std::span<const std::size_t> features,
                                      std::span<const std::uint32_t> train, const DataOptions& options) {
    check_preparation(options, features.size(), "feature");
    std::size_t cells = 0;
    std::size_t columns = 0;
    for (std::size_t i = 0; i < features.size(); ++i) {
        const double mean = options.mean.empty() ? mean_of(table, train, features[i]) : options.mean[i];
        const std::size_t filled = fill_column(table, features[i], mean);
        cells += filled;
        columns += filled > 0 ? 1 : 0;
    }
    if (cells == 0)
        return {};
    return {fmt::format("{}: {} missing values in {} columns are taken as their column's mean", table.path, cells,
                        columns)};
}

Numbers<double> gather(const Table& table, std::span<const std::uint32_t> rows, std::span<const std::size_t> features,
                       const Answers& answers) {
    Numbers<double> numbers{
        .sample = {1, static_cast<std::int64_t>(features.size())}, .values = {}, .labels = {}, .targets = {}};
    numbers.values.reserve(rows.size() * features.size());
    for (const std::uint32_t row : rows) {
        for (const std::size_t column : features)
            numbers.values.push_back(table.at(row, column));
        if (answers.targets.empty())
            numbers.labels.push_back(answers.labels[row]);
        else
            numbers.targets.push_back(answers.targets[row]);
    }
    return numbers;
}

int classes_of(const Table& table, const Answers& answers, const DataOptions& options) {
    if (!answers.targets.empty())
        return 0;
    const int classes = options.classes > 0 ? options.classes : count_classes(answers.labels);
    require_labels_below(answers.labels, classes,
                         [&](std::size_t row) { return fmt::format("{}:{}", table.path, table.lines[row]); });
    return classes;
}

std::vector<std::uint32_t> groups_of(const Table& table, std::span<const std::uint32_t> rows) {
    std::vector<std::string_view> texts;
    for (const std::uint32_t row : rows)
        if (!table.groups.empty())
            texts.emplace_back(table.groups[row]);
    return number_groups(texts);
}

}  // namespace

DataSplits load_csv(const DataOptions& options, std::uint32_t seed) {
    Table table = read_table(options.path, options.groups);
    Rows rows = split_rows(table.rows(), options, seed);
    if (options.limit > 0 && options.limit < rows.train.size())
        rows.train.resize(options.limit);
    const std::size_t label = label_column(table, options.label);
    const std::vector<std::size_t> features = feature_columns(table, label);
    std::vector<std::string> notes = fill_missing(table, features, rows.train, options);
    const Answers answers = read_answers(table, label, is_regression(options));
    const int classes = classes_of(table, answers, options);
    DataSplits splits =
        standardize_splits(gather(table, rows.train, features, answers), gather(table, rows.test, features, answers),
                           classes, classes > 0 ? classes : 1, options);
    splits.train = std::move(splits.train).with_groups(groups_of(table, rows.train));
    splits.origin = {.count = table.rows(), .rows = std::move(rows.train)};
    splits.notes = std::move(notes);
    return splits;
}

}  // namespace dither::detail
