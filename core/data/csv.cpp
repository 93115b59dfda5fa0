#include "core/data/detail/readers.hpp"
#include "core/error.hpp"
#include "core/rng.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>

namespace dither::detail {
namespace {

/// Tells the stream that splits the rows from the one that deals the training set to clients.
constexpr std::uint32_t kSplitLane = 1;

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

std::optional<double> parse_number(std::string_view field) {
    double value = 0;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc{} || end != field.data() + field.size() || !std::isfinite(value))
        return std::nullopt;
    return value;
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
    std::vector<double> cells;       ///< [rows, columns]
    std::vector<std::size_t> lines;  ///< [rows], where each stands in the file

    std::size_t rows() const { return lines.size(); }
    double at(std::size_t row, std::size_t column) const { return cells[row * columns + column]; }
};

void append_row(Table& table, std::string_view line, std::size_t number, std::span<const std::string_view> fields) {
    if (fields.size() != table.columns)
        throw InputError(fmt::format("{}:{}: expected {} fields, as in the first line, found {}", table.path, number,
                                     table.columns, fields.size()));
    for (const std::string_view field : fields) {
        const std::optional<double> value = parse_number(field);
        if (!value)
            throw InputError(fmt::format("{}:{}:{}: expected a finite number, found \"{}\"", table.path, number,
                                         field.data() - line.data() + 1, field));
        table.cells.push_back(*value);
    }
    table.lines.push_back(number);
}

/// None is a number; a line that holds some is data, and its other fields are mistakes.
bool is_header(std::span<const std::string_view> fields) {
    return std::none_of(fields.begin(), fields.end(), [](std::string_view field) { return parse_number(field); });
}

Table read_table(const std::string& path) {
    std::ifstream file(path);
    if (!std::filesystem::is_regular_file(path) || !file)
        throw InputError(fmt::format("{}: expected a CSV file, and there is none to read", path));
    Table table{.path = path, .header = {}, .columns = 0, .cells = {}, .lines = {}};
    std::string line;
    std::vector<std::string_view> fields;
    for (std::size_t number = 1; std::getline(file, line); ++number) {
        if (trim(line).empty())
            continue;
        split_fields(line, fields);
        const bool first = table.columns == 0;
        if (first)
            table.columns = fields.size();
        if (first && is_header(fields))
            table.header = names_in(fields);
        else
            append_row(table, line, number, fields);
    }
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
    const auto found = std::find(table.header.begin(), table.header.end(), label);
    if (found == table.header.end())
        throw InputError(
            fmt::format("data.label: expected \"first\", \"last\" or a name in the header of {}{}, found \"{}\"",
                        table.path, table.header.empty() ? ", which has none" : "", label));
    return static_cast<std::size_t>(found - table.header.begin());
}

std::vector<std::int32_t> read_labels(const Table& table, std::size_t column) {
    std::vector<std::int32_t> labels;
    for (std::size_t row = 0; row < table.rows(); ++row) {
        const double value = table.at(row, column);
        if (value < 0 || value > std::numeric_limits<std::int32_t>::max() || value != std::floor(value))
            throw InputError(
                fmt::format("{}:{}: expected a label, an integer >= 0, found {}", table.path, table.lines[row], value));
        labels.push_back(static_cast<std::int32_t>(value));
    }
    return labels;
}

struct Rows {
    std::vector<std::uint32_t> train;
    std::vector<std::uint32_t> test;
};

Rows split_rows(std::size_t rows, const DataOptions& options, std::uint32_t seed) {
    std::vector<std::uint32_t> order(rows);
    std::iota(order.begin(), order.end(), 0U);
    Stream({.seed = seed, .purpose = Purpose::partition, .lane = kSplitLane}).shuffle(order);
    const auto wanted = static_cast<std::size_t>(std::lround(options.test_fraction * static_cast<double>(rows)));
    const auto cut = order.begin() + static_cast<std::ptrdiff_t>(std::clamp<std::size_t>(wanted, 1, rows - 1));
    Rows split{{cut, order.end()}, {order.begin(), cut}};
    if (options.limit > 0 && options.limit < split.train.size())
        split.train.resize(options.limit);
    return split;
}

/// x is standardized as (x - mean) * (1 / deviation), by the training rows, added in their order.
struct Scaling {
    double mean = 0;
    double deviation = 1;
};

Scaling measure(const Table& table, std::span<const std::uint32_t> rows, std::size_t column) {
    const auto count = static_cast<double>(rows.size());
    double sum = 0;
    for (const std::uint32_t row : rows)
        sum += table.at(row, column);
    const double mean = sum / count;
    double squares = 0;
    for (const std::uint32_t row : rows)
        squares += (table.at(row, column) - mean) * (table.at(row, column) - mean);
    const double deviation = std::sqrt(squares / count);
    return {mean, deviation > 0 ? deviation : 1};
}

/// Builds the datasets of one table whose column `label` is the label.
class Builder {
public:
    Builder(const Table& table, std::size_t label, const DataOptions& options, std::span<const std::uint32_t> train)
        : table_(table), label_(label), regression_(options.task == "regression") {
        check_preparation(options, table.columns - 1, "feature");
        for (std::size_t column = 0; column < table.columns; ++column)
            if (column != label)
                features_.emplace_back(column, scaling_of(column, options, train));
        if (regression_)
            return;
        labels_ = read_labels(table, label);
        classes_ = options.classes > 0 ? options.classes : count_classes(labels_);
        require_labels_below(labels_, classes_,
                             [&](std::size_t row) { return fmt::format("{}:{}", table.path, table.lines[row]); });
    }

    Dataset build(std::span<const std::uint32_t> rows) const {
        std::vector<float> values, targets;
        std::vector<std::int32_t> labels;
        values.reserve(rows.size() * features_.size());
        for (const std::uint32_t row : rows) {
            for (const auto& [column, scaling] : features_)
                values.push_back(static_cast<float>((table_.at(row, column) - scaling.mean) * (1 / scaling.deviation)));
            if (regression_)
                targets.push_back(static_cast<float>(table_.at(row, label_)));
            else
                labels.push_back(labels_[row]);
        }
        return {Shape{1, static_cast<std::int64_t>(features_.size())},
                std::move(values),
                std::move(labels),
                classes_,
                std::move(targets),
                regression_ ? 1 : classes_};
    }

    Preparation preparation() const {
        Preparation preparation{.classes = classes_};
        for (const auto& [column, scaling] : features_) {
            preparation.mean.push_back(scaling.mean);
            preparation.deviation.push_back(scaling.deviation);
        }
        return preparation;
    }

private:
    Scaling scaling_of(std::size_t column, const DataOptions& options, std::span<const std::uint32_t> train) const {
        const std::size_t feature = features_.size();
        return options.mean.empty() ? measure(table_, train, column)
                                    : Scaling{options.mean[feature], options.deviation[feature]};
    }

    const Table& table_;
    std::size_t label_;
    bool regression_;
    std::vector<std::pair<std::size_t, Scaling>> features_;
    std::vector<std::int32_t> labels_;  ///< [rows]; empty for regression
    int classes_ = 0;
};

}  // namespace

DataSplits load_csv(const DataOptions& options, std::uint32_t seed) {
    const Table table = read_table(options.path);
    const Rows rows = split_rows(table.rows(), options, seed);
    const Builder builder(table, label_column(table, options.label), options, rows.train);
    return {builder.build(rows.train), builder.build(rows.test), builder.preparation()};
}

}  // namespace dither::detail
