// Pieces of gnuplot scripts.
#pragma once

#include <optional>
#include <string>

namespace dither::gnuplot {

/// In single quotes, as gnuplot wants its strings.
std::string literal(const std::string& text);
/// A number of a data block; "NaN", which draws nothing, where there is none.
std::string number(const std::optional<double>& value);
/// The colour of the i-th of several things, quoted; they repeat after eight.
std::string colour(std::size_t i);
/// A script that draws `body`, which plots $blocks of `data`, into NAME.svg and NAME.png. Underscores and carets of
/// texts are what they are.
std::string twice(const std::string& name, const std::string& data, const std::string& body);

}  // namespace dither::gnuplot
