// The words that a job file may use for one of several implementations.
//
// Each family (policies, optimizers, losses, ...) has one table in the source of its factory: name, meaning, maker. The
// factory, the error about an unknown name, the check of the job file and the help all read that table.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dither {

struct Choice {
    std::string_view name;
    std::string_view meaning;
};

/// "one of "a", "b"": what an error or a help text says was expected.
std::string expected_text(std::span<const Choice> choices);
/// Throws InputError: `key` names none of `choices`.
[[noreturn]] void fail_choice(std::string_view key, std::span<const Choice> choices, std::string_view found);

/// A row of a family's table; `value` makes the implementation.
template <typename Value>
struct ChoiceRow {
    std::string_view name;
    std::string_view meaning;
    Value value;
};

template <typename Rows>
std::vector<Choice> choices_of(const Rows& rows) {
    std::vector<Choice> choices;
    for (const auto& row : rows)
        choices.push_back({row.name, row.meaning});
    return choices;
}

/// The value of the row that is called `name`. Throws InputError that names `key` and lists the choices.
template <typename Rows>
const auto& choose(const Rows& rows, std::string_view key, std::string_view name) {
    for (const auto& row : rows)
        if (row.name == name)
            return row.value;
    fail_choice(key, choices_of(rows), name);
}

}  // namespace dither
