// A table of a TOML file that may hold only what its reader asks for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "examples/study/setting.hpp"

#define TOML_ASSERT(expression) static_assert(true)  // toml++ 3.3 asserts of a key what it then refuses with an error
#include <toml++/toml.h>

namespace dither {

/// Reads a table key by key. Every reader throws InputError that names file, line, key, what was expected and what was
/// found; finish() does where a key was never asked for, and names the nearest one that was. Keeps references: the
/// table outlives it. Not thread-safe.
class StrictTable {
public:
    /// `name` is the table's own key, empty for the whole file; `file` names it in errors.
    StrictTable(const toml::table& table, std::string name, std::string file);

    std::string where() const;  ///< of the table
    std::string where(std::string_view key) const;

    std::string text(std::string_view key);
    std::string text(std::string_view key, std::string fallback);
    bool flag(std::string_view key, bool fallback);
    double number(std::string_view key, double fallback);
    std::optional<std::int64_t> integer(std::string_view key, std::int64_t low, std::int64_t high);
    std::vector<std::string> texts(std::string_view key);
    /// Keys of a job, as dotted keys or as tables within each other.
    std::vector<Setting> settings(std::string_view key);
    /// [[key]], each a table of its own; none if there is no such key.
    std::vector<StrictTable> tables(std::string_view key);
    /// [key]; nothing if there is no such key.
    std::optional<StrictTable> table(std::string_view key);
    /// A number of things or a list of them: seeds = 5 or [3, 7].
    std::vector<std::uint32_t> count_or_list(std::string_view key, std::vector<std::uint32_t> fallback);
    /// The keys of this table, in their order; it is for tables whose keys are names.
    std::vector<std::string> keys() const;
    /// The value, asked for; null if there is none.
    const toml::node* find(std::string_view key);

    [[noreturn]] void fail(std::string_view key, const toml::node& found, std::string_view expected) const;
    /// InputError about one key's value, "FILE:LINE:COLUMN: key: message".
    [[noreturn]] void fail(std::string_view key, std::string_view message) const;
    void finish() const;

private:
    std::string full(std::string_view key) const;
    std::string place(const toml::source_region& region) const;

    const toml::table* table_;
    std::string name_;
    std::string file_;
    std::vector<std::string> asked_;
};

/// `text` as a table. Throws InputError with file and line.
toml::table parse_toml_file(std::string_view text, const std::string& file);
/// A value as TOML on one line, without comments.
std::string to_inline_toml(const toml::node& node);

}  // namespace dither
