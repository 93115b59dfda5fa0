#include "examples/study/strict_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "core/error.hpp"
#include "core/words.hpp"

namespace dither {
namespace {

constexpr std::int64_t kMostSeeds = 100'000;
constexpr std::int64_t kLargestSeed = 0xffffffff;

std::string array_text(const toml::array& array) {
    std::vector<std::string> texts;
    for (const toml::node& value : array)
        texts.push_back(to_inline_toml(value));
    return fmt::format("[{}]", fmt::join(texts, ", "));
}

std::string table_text(const toml::table& table) {
    std::vector<std::string> texts;
    for (const auto& [key, value] : table)
        texts.push_back(fmt::format("{} = {}", toml_text(key.str()), to_inline_toml(value)));
    return fmt::format("{{ {} }}", fmt::join(texts, ", "));
}

bool is_seed(const toml::node& node) {
    const auto* seed = node.as_integer();
    return seed != nullptr && seed->get() >= 0 && seed->get() <= kLargestSeed;
}

}  // namespace

std::string to_inline_toml(const toml::node& node) {
    if (const auto* text = node.as_string())
        return toml_text(text->get());
    if (const auto* array = node.as_array())
        return array_text(*array);
    if (const auto* table = node.as_table())
        return table_text(*table);
    if (const auto* number = node.as_floating_point()) {
        const std::string text = fmt::format("{}", number->get());
        return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;  // n: of inf and nan
    }
    std::ostringstream stream;
    node.visit([&](const auto& value) { stream << value; });
    return stream.str();
}

toml::table parse_toml_file(std::string_view text, const std::string& file) {
    try {
        return toml::parse(text);
    } catch (const toml::parse_error& error) {
        throw InputError(fmt::format("{}:{}:{}: {}", file, error.source().begin.line, error.source().begin.column,
                                     error.description()));
    }
}

StrictTable::StrictTable(const toml::table& table, std::string name, std::string file)
    : table_(&table), name_(std::move(name)), file_(std::move(file)) {}

std::string StrictTable::full(std::string_view key) const {
    return name_.empty() ? std::string(key) : fmt::format("{}.{}", name_, key);
}

std::string StrictTable::place(const toml::source_region& region) const {
    return fmt::format("{}:{}:{}", file_, region.begin.line, region.begin.column);
}

std::string StrictTable::where() const {
    return place(table_->source());
}

std::string StrictTable::where(std::string_view key) const {
    const toml::node* const node = table_->get(key);
    return node == nullptr ? where() : place(node->source());
}

void StrictTable::fail(std::string_view key, std::string_view message) const {
    throw InputError(fmt::format("{}: {}: {}", where(key), full(key), message));
}

void StrictTable::fail(std::string_view key, const toml::node& found, std::string_view expected) const {
    throw InputError(fmt::format("{}: {}: expected {}, found {}", place(found.source()), full(key), expected,
                                 found.is_table() ? "a table" : to_inline_toml(found)));
}

const toml::node* StrictTable::find(std::string_view key) {
    asked_.emplace_back(key);
    return table_->get(key);
}

std::string StrictTable::text(std::string_view key) {
    const toml::node* const node = find(key);
    if (node == nullptr)
        throw InputError(fmt::format("{}: expected {}, a string", where(), full(key)));
    const auto* value = node->as_string();
    if (value == nullptr || value->get().empty())
        fail(key, *node, "a string that is not empty");
    return value->get();
}

std::string StrictTable::text(std::string_view key, std::string fallback) {
    return find(key) == nullptr ? std::move(fallback) : text(key);
}

bool StrictTable::flag(std::string_view key, bool fallback) {
    const toml::node* const node = find(key);
    if (node != nullptr && !node->is_boolean())
        fail(key, *node, "true or false");
    return node == nullptr ? fallback : node->as_boolean()->get();
}

double StrictTable::number(std::string_view key, double fallback) {
    const toml::node* const node = find(key);
    if (node != nullptr && !node->is_number())
        fail(key, *node, "a number");
    return node == nullptr ? fallback : *node->value<double>();
}

std::optional<std::int64_t> StrictTable::integer(std::string_view key, std::int64_t low, std::int64_t high) {
    const toml::node* const node = find(key);
    if (node == nullptr)
        return std::nullopt;
    const auto* value = node->as_integer();
    if (value == nullptr || value->get() < low || value->get() > high)
        fail(key, *node, fmt::format("an integer, {} .. {}", low, high));
    return value->get();
}

std::vector<std::string> StrictTable::texts(std::string_view key) {
    const toml::node* const node = find(key);
    if (node == nullptr)
        return {};
    const toml::array* const array = node->as_array();
    if (array == nullptr || !std::all_of(array->begin(), array->end(), [](const auto& v) { return v.is_string(); }))
        fail(key, *node, "a list of strings");
    std::vector<std::string> values;
    for (const toml::node& value : *array)
        values.push_back(value.as_string()->get());
    return values;
}

namespace {

void flatten(const toml::table& table, const std::string& prefix, const std::string& file,
             std::vector<Setting>& settings) {
    for (const auto& [key, node] : table) {
        const std::string name = prefix + std::string(key.str());
        if (const toml::table* const inner = node.as_table())
            flatten(*inner, name + '.', file, settings);
        else
            settings.push_back(
                {.key = name,
                 .value = to_inline_toml(node),
                 .where = fmt::format("{}:{}:{}", file, key.source().begin.line, key.source().begin.column)});
    }
}

}  // namespace

std::vector<Setting> StrictTable::settings(std::string_view key) {
    const toml::node* const node = find(key);
    if (node == nullptr)
        return {};
    if (!node->is_table())
        fail(key, *node, "a table of a job's keys");
    std::vector<Setting> settings;
    flatten(*node->as_table(), "", file_, settings);
    return settings;
}

std::vector<StrictTable> StrictTable::tables(std::string_view key) {
    const toml::node* const node = find(key);
    if (node == nullptr)
        return {};
    const toml::array* const array = node->as_array();
    if (array == nullptr || !std::all_of(array->begin(), array->end(), [](const auto& v) { return v.is_table(); }))
        fail(key, *node, "tables, [[" + full(key) + "]]");
    std::vector<StrictTable> tables;
    for (const toml::node& table : *array)
        tables.emplace_back(*table.as_table(), fmt::format("{}[{}]", full(key), tables.size()), file_);
    return tables;
}

std::optional<StrictTable> StrictTable::table(std::string_view key) {
    const toml::node* const node = find(key);
    if (node == nullptr)
        return std::nullopt;
    if (!node->is_table())
        fail(key, *node, "a table");
    return StrictTable(*node->as_table(), full(key), file_);
}

std::vector<std::uint32_t> StrictTable::count_or_list(std::string_view key, std::vector<std::uint32_t> fallback) {
    constexpr std::string_view kExpected =
        "how many seeds, 1 .. 100000, or a list of different ones, each 0 .. 4294967295";
    const toml::node* const node = find(key);
    if (node == nullptr)
        return fallback;
    std::vector<std::uint32_t> values;
    if (const auto* count = node->as_integer(); count != nullptr && count->get() >= 1 && count->get() <= kMostSeeds)
        for (std::uint32_t i = 1; i <= count->get(); ++i)
            values.push_back(i);
    else if (const auto* list = node->as_array(); list != nullptr && std::all_of(list->begin(), list->end(), is_seed))
        for (const toml::node& seed : *list)
            values.push_back(static_cast<std::uint32_t>(seed.as_integer()->get()));
    std::vector<std::uint32_t> sorted = values;
    std::ranges::sort(sorted);
    if (values.empty() || std::ranges::adjacent_find(sorted) != sorted.end())
        fail(key, *node, kExpected);
    return values;
}

std::vector<std::string> StrictTable::keys() const {
    std::vector<const toml::key*> keys;
    for (const auto& [key, node] : *table_)
        keys.push_back(&key);
    std::ranges::sort(keys, {}, [](const toml::key* key) {
        const toml::source_position begin = key->source().begin;
        return std::pair(begin.line, begin.column);
    });
    std::vector<std::string> names;
    for (const toml::key* key : keys)
        names.emplace_back(key->str());
    return names;
}

void StrictTable::finish() const {
    for (const auto& [key, node] : *table_)
        if (std::ranges::find(asked_, key.str()) == asked_.end())
            throw InputError(fmt::format("{}: unknown key {}; the nearest known one is {}", place(key.source()),
                                         full(key.str()), full(nearest(key.str(), asked_))));
}

}  // namespace dither
