// How the keys of a job file are declared: each option knows its key, what it takes, and how to read and write the
// member that it stands for.
#pragma once

#include "core/choice.hpp"
#include "core/words.hpp"

// toml++ 3.3 asserts of a key what it then refuses with an error: a debug build would end on the text "[;".
#define TOML_ASSERT(expression) static_assert(true)
#include <toml++/toml.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace dither::detail {

struct Option {
    std::string key;       ///< dotted: "federation.partition.alpha"
    std::string expected;  ///< "an integer, 1 .. 65535"
    std::string meaning;
    std::function<std::string()> text;              ///< the member's value as TOML
    std::function<bool(const toml::node&)> assign;  ///< false if the node is not what is expected
    std::vector<Choice> choices;                    ///< of an option that takes one of several words
    std::string where = "default";                  ///< what set the value
};

/// A fault within an option that is a list of tables, thrown by its assign.
struct NodeError {
    toml::source_region where;
    std::string message;  ///< begins with the place: "model.layers[3].kernel: ..."; places count from 0
};

/// The numbers that an option takes.
struct Interval {
    double low = 0;
    double high = std::numeric_limits<double>::infinity();
    bool open_low = false;
    bool open_high = false;

    bool contains(double x) const {
        return (open_low ? x > low : x >= low) && (open_high ? x < high : x <= high) &&
               x < std::numeric_limits<double>::infinity();
    }
    std::string str() const;
};

/// A list of options bound to the members of one object, which must outlive it. Each method declares one key.
class OptionList {
public:
    void text(std::string key, std::string& member, std::string meaning);
    void flag(std::string key, bool& member, std::string meaning);
    void choice(std::string key, std::string& member, std::vector<Choice> choices, std::string meaning);
    /// A choice that is not kept as a string; `set` is given the name of one of them.
    void choice(std::string key, std::function<std::string_view()> get, std::function<void(std::string_view)> set,
                std::vector<Choice> choices, std::string meaning);
    void number(std::string key, double& member, Interval range, std::string meaning);
    /// Any number of them, also none.
    void numbers(std::string key, std::vector<double>& member, Interval range, std::string meaning);
    /// Written with a unit: "500ms", "60s", "10min", "2h".
    void duration(std::string key, std::chrono::milliseconds& member, std::string meaning);
    /// One or more integers >= 1.
    void widths(std::string key, std::vector<std::int64_t>& member, std::string meaning);
    /// Ascending, each 2 .. 16, then 32.
    void levels(std::string key, std::vector<int>& member, std::string meaning);
    /// 2 .. 16, or "auto", which is kept as 0.
    void code_bits(std::string key, int& member, std::string meaning);
    /// 2 .. 16, or "plan", which is kept as 0.
    void plan_bits(std::string key, int& member, std::string meaning);
    /// An option of another form.
    void add(Option option) { options_.push_back(std::move(option)); }

    template <typename Integer>
    void integer(std::string key, Integer& member, std::int64_t low, std::int64_t high, std::string meaning) {
        add_integer(
            std::move(key), low, high, [&member] { return static_cast<std::int64_t>(member); },
            [&member](std::int64_t value) { member = static_cast<Integer>(value); }, std::move(meaning));
    }
    template <typename Integer>
    void integer(std::string key, Integer& member, std::int64_t low, std::string meaning) {
        constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
        constexpr auto kHigh = static_cast<std::uint64_t>(std::numeric_limits<Integer>::max());
        integer(std::move(key), member, low, static_cast<std::int64_t>(std::min(kMost, kHigh)), std::move(meaning));
    }

    std::span<Option> all() { return options_; }
    std::span<const Option> all() const { return options_; }
    /// Null if there is no such key.
    Option* find(std::string_view key);
    /// Whether some keys start with `name` and a dot.
    bool is_table(std::string_view name) const;
    /// The known key or table that was most likely meant.
    std::string nearest(std::string_view unknown) const;

private:
    void bits_or(std::string_view word, std::string key, int& member, std::string meaning);
    void add_integer(std::string key, std::int64_t low, std::int64_t high, std::function<std::int64_t()> get,
                     std::function<void(std::int64_t)> set, std::string meaning);

    std::vector<Option> options_;
};

/// A choice that is kept as an enumeration; `choices` are in its order.
template <typename Enum>
void declare_enum(OptionList& list, std::string key, Enum& member, const std::vector<Choice>& choices,
                  std::string meaning) {
    list.choice(
        std::move(key), [&member, choices] { return choices[static_cast<std::size_t>(member)].name; },
        [&member, choices](std::string_view name) {
            member = static_cast<Enum>(std::ranges::find(choices, name, &Choice::name) - choices.begin());
        },
        choices, std::move(meaning));
}

/// A short rendering of what was found in place of a value: 3, "three", a table.
std::string describe(const toml::node& node);

}  // namespace dither::detail
