// Words of job and study files, in texts for people.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace dither {

/// The fewest insertions, deletions and replacements of a character that make b of a (Levenshtein 1966).
std::size_t edit_distance(std::string_view a, std::string_view b);
/// The one of `known` that is nearest to `word`, the first of several: what an error about an unknown word names. Empty
/// if `known` is.
std::string nearest(std::string_view word, std::span<const std::string> known);
/// `text` as a TOML basic string, quoted and escaped.
std::string toml_text(std::string_view text);

}  // namespace dither
