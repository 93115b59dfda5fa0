#include "core/detail/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>
#include <optional>
#include <sstream>
#include <tuple>

namespace dither::detail {
namespace {

using std::chrono::milliseconds;

struct Unit {
    std::string_view name;
    milliseconds length;
};
constexpr std::array<Unit, 4> kUnits{{{"h", std::chrono::hours{1}},
                                      {"min", std::chrono::minutes{1}},
                                      {"s", std::chrono::seconds{1}},
                                      {"ms", milliseconds{1}}}};

std::optional<milliseconds> parse_duration(std::string_view text) {
    std::uint32_t count = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
    if (error != std::errc{})
        return std::nullopt;
    const std::string_view name(end, static_cast<std::size_t>(text.data() + text.size() - end));
    const auto unit = std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& u) { return u.name == name; });
    if (unit == kUnits.end())
        return std::nullopt;
    return count * unit->length;
}

/// In the longest unit that needs no fraction.
std::string format_duration(milliseconds duration) {
    if (duration.count() == 0)
        return "\"0s\"";
    const auto unit = std::find_if(kUnits.begin(), kUnits.end(),
                                   [&](const Unit& u) { return duration.count() % u.length.count() == 0; });
    return fmt::format("\"{}{}\"", duration / unit->length, unit->name);
}

/// The shortest text that reads back as the same double, and as a TOML float.
std::string format_number(double value) {
    std::string text = fmt::format("{}", value);
    if (text.find_first_of(".e") == std::string::npos)
        text += ".0";
    return text;
}

template <typename Integer>
std::optional<std::vector<Integer>> parse_integers(const toml::node& node, std::int64_t low, std::int64_t high) {
    const toml::array* array = node.as_array();
    if (array == nullptr || array->empty())
        return std::nullopt;
    std::vector<Integer> values;
    for (const toml::node& element : *array) {
        const auto* integer = element.as_integer();
        if (integer == nullptr || integer->get() < low || integer->get() > high)
            return std::nullopt;
        values.push_back(static_cast<Integer>(integer->get()));
    }
    return values;
}

bool are_levels(std::span<const int> bits) {
    const bool ascending = std::adjacent_find(bits.begin(), bits.end(), std::greater_equal<>{}) == bits.end();
    return ascending && bits.back() == 32 && (bits.size() == 1 || bits[bits.size() - 2] <= 16);
}

std::string_view last_part(std::string_view key) {
    return key.substr(key.rfind('.') + 1);
}

}  // namespace

std::string Interval::str() const {
    const bool bounded = high < std::numeric_limits<double>::infinity();
    const std::string lower = fmt::format("{} {}", open_low ? ">" : ">=", low);
    return bounded ? fmt::format("{} and {} {}", lower, open_high ? "<" : "<=", high) : lower;
}

std::string describe(const toml::node& node) {
    if (node.is_table())
        return "a table";
    if (const auto* text = node.as_string())
        return toml_text(text->get());
    std::ostringstream stream;
    node.visit([&](const auto& value) { stream << value; });
    return stream.str();
}

void OptionList::text(std::string key, std::string& member, std::string meaning) {
    add({std::move(key), "a string that is not empty", std::move(meaning), [&member] { return toml_text(member); },
         [&member](const toml::node& node) {
             const auto* value = node.as_string();
             if (value == nullptr || value->get().empty())
                 return false;
             member = value->get();
             return true;
         }});
}

void OptionList::flag(std::string key, bool& member, std::string meaning) {
    add({std::move(key), "true or false", std::move(meaning), [&member] { return fmt::format("{}", member); },
         [&member](const toml::node& node) {
             const auto* value = node.as_boolean();
             if (value != nullptr)
                 member = value->get();
             return value != nullptr;
         }});
}

void OptionList::choice(std::string key, std::string& member, std::vector<Choice> choices, std::string meaning) {
    choice(
        std::move(key), [&member] { return std::string_view(member); }, [&member](std::string_view s) { member = s; },
        std::move(choices), std::move(meaning));
}

void OptionList::choice(std::string key, std::function<std::string_view()> get,
                        std::function<void(std::string_view)> set, std::vector<Choice> choices, std::string meaning) {
    const auto assign = [set, choices](const toml::node& node) {
        const auto* value = node.as_string();
        if (value == nullptr || std::ranges::find(choices, value->get(), &Choice::name) == choices.end())
            return false;
        set(value->get());
        return true;
    };
    add({std::move(key), expected_text(choices), std::move(meaning), [get] { return toml_text(get()); }, assign,
         std::move(choices)});
}

void OptionList::number(std::string key, double& member, Interval range, std::string meaning) {
    add({std::move(key), "a number " + range.str(), std::move(meaning), [&member] { return format_number(member); },
         [&member, range](const toml::node& node) {
             if (!node.is_number() || !range.contains(*node.value<double>()))
                 return false;
             member = *node.value<double>();
             return true;
         }});
}

void OptionList::numbers(std::string key, std::vector<double>& member, Interval range, std::string meaning) {
    add({std::move(key), "a list of numbers, each " + range.str(), std::move(meaning),
         [&member] {
             std::vector<std::string> texts(member.size());
             std::ranges::transform(member, texts.begin(), format_number);
             return fmt::format("[{}]", fmt::join(texts, ", "));
         },
         [&member, range](const toml::node& node) {
             const toml::array* const values = node.as_array();
             const auto fits = [&](const toml::node& value) {
                 return value.is_number() && range.contains(*value.value<double>());
             };
             if (values == nullptr || !std::all_of(values->begin(), values->end(), fits))
                 return false;
             member.clear();
             for (const toml::node& value : *values)
                 member.push_back(*value.value<double>());
             return true;
         }});
}

void OptionList::duration(std::string key, milliseconds& member, std::string meaning) {
    add({std::move(key), "a duration such as \"500ms\", \"60s\", \"10min\" or \"2h\"", std::move(meaning),
         [&member] { return format_duration(member); },
         [&member](const toml::node& node) {
             const auto* value = node.as_string();
             const auto duration = value == nullptr ? std::nullopt : parse_duration(value->get());
             member = duration.value_or(member);
             return duration.has_value();
         }});
}

void OptionList::widths(std::string key, std::vector<std::int64_t>& member, std::string meaning) {
    add({std::move(key), "a list of integers, each 1 .. 1048576", std::move(meaning),
         [&member] { return fmt::format("[{}]", fmt::join(member, ", ")); },
         [&member](const toml::node& node) {
             const auto values = parse_integers<std::int64_t>(node, 1, 1 << 20);
             member = values.value_or(member);
             return values.has_value();
         }});
}

void OptionList::levels(std::string key, std::vector<int>& member, std::string meaning) {
    add({std::move(key), "an ascending list of bit widths, each 2 .. 16, that ends in 32", std::move(meaning),
         [&member] { return fmt::format("[{}]", fmt::join(member, ", ")); },
         [&member](const toml::node& node) {
             const auto values = parse_integers<int>(node, 2, 32);
             if (!values || !are_levels(*values))
                 return false;
             member = *values;
             return true;
         }});
}

void OptionList::code_bits(std::string key, int& member, std::string meaning) {
    bits_or("auto", std::move(key), member, std::move(meaning));
}

void OptionList::plan_bits(std::string key, int& member, std::string meaning) {
    bits_or("plan", std::move(key), member, std::move(meaning));
}

void OptionList::bits_or(std::string_view word, std::string key, int& member, std::string meaning) {
    add({std::move(key), fmt::format("\"{}\" or an integer, 2 .. 16", word), std::move(meaning),
         [&member, word] { return member == 0 ? toml_text(word) : fmt::format("{}", member); },
         [&member, word](const toml::node& node) {
             if (const auto* text = node.as_string(); text != nullptr && text->get() == word) {
                 member = 0;
                 return true;
             }
             const auto* bits = node.as_integer();
             if (bits == nullptr || bits->get() < 2 || bits->get() > 16)
                 return false;
             member = static_cast<int>(bits->get());
             return true;
         }});
}

void OptionList::add_integer(std::string key, std::int64_t low, std::int64_t high, std::function<std::int64_t()> get,
                             std::function<void(std::int64_t)> set, std::string meaning) {
    add({std::move(key), fmt::format("an integer, {} .. {}", low, high), std::move(meaning),
         [get] { return fmt::format("{}", get()); },
         [set, low, high](const toml::node& node) {
             const auto* value = node.as_integer();
             if (value == nullptr || value->get() < low || value->get() > high)
                 return false;
             set(value->get());
             return true;
         }});
}

Option* OptionList::find(std::string_view key) {
    const auto found = std::find_if(options_.begin(), options_.end(), [&](const Option& o) { return o.key == key; });
    return found == options_.end() ? nullptr : &*found;
}

bool OptionList::is_table(std::string_view name) const {
    return std::any_of(options_.begin(), options_.end(), [&](const Option& option) {
        return option.key.size() > name.size() && option.key.starts_with(name) && option.key[name.size()] == '.';
    });
}

std::string OptionList::nearest(std::string_view unknown) const {
    constexpr std::size_t kLongest = 64;  // keys of any length come from the network; no known one is longer
    unknown = unknown.substr(0, kLongest);
    // A key in the wrong table is as likely as a slip of the pen: comparing the last parts costs one edit.
    using Rank = std::tuple<std::size_t, std::size_t>;
    Rank best{std::numeric_limits<std::size_t>::max(), 0};
    std::string_view nearest;
    const auto consider = [&](std::string_view candidate) {
        const std::size_t whole = edit_distance(unknown, candidate);
        const Rank rank{std::min(whole, edit_distance(last_part(unknown), last_part(candidate)) + 1), whole};
        if (rank < best)
            std::tie(best, nearest) = std::tuple(rank, candidate);
    };
    for (const Option& option : options_)
        for (std::size_t end = option.key.find('.');; end = option.key.find('.', end + 1)) {
            consider(std::string_view(option.key).substr(0, end));
            if (end == std::string::npos)
                break;
        }
    return std::string(nearest);
}

}  // namespace dither::detail
