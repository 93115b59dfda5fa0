#include "core/choice.hpp"

#include "core/error.hpp"

namespace dither {

std::string expected_text(std::span<const Choice> choices) {
    std::string names;
    for (const Choice& choice : choices)
        names += fmt::format("{}\"{}\"", names.empty() ? "" : ", ", choice.name);
    return "one of " + names;
}

void fail_choice(std::string_view key, std::span<const Choice> choices, std::string_view found) {
    throw InputError(fmt::format("{}: expected {}, found \"{}\"", key, expected_text(choices), found));
}

}  // namespace dither
