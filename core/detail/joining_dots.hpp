// How deep the tables of a TOML text can nest by its dotted keys ("a.b.c"), told before it is parsed.
#pragma once

#include <cstddef>
#include <string_view>

namespace dither::detail {

/// Dots of `text`, without those in numbers: at least half of the dots in any of its keys, wherever it stands and
/// however it is quoted, and those in its strings and comments, too. A number's dot is the first of a word, between
/// digits.
inline std::size_t joining_dots(std::string_view text) {
    const auto is_digit = [&](std::size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
    const auto is_letter = [](char c) {
        const bool ascii = static_cast<unsigned char>(c) < 0x80;
        return !ascii || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
    };
    std::size_t dots = 0;
    bool dotted = false;  // the word up to here has one
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '.') {
            dots += dotted || i == 0 || !is_digit(i - 1) || !is_digit(i + 1) ? 1 : 0;
            dotted = true;
        } else if (!is_digit(i) && !is_letter(text[i])) {
            dotted = false;
        }
    }
    return dots;
}

}  // namespace dither::detail
