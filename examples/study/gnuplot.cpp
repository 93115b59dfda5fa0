#include "examples/study/gnuplot.hpp"

#include <fmt/format.h>

#include <array>

namespace dither::gnuplot {

std::string literal(const std::string& text) {
    std::string result = "'";
    for (const char c : text)
        result += c == '\'' ? std::string("''") : std::string(1, c == '\n' ? ' ' : c);
    return result + "'";
}

std::string number(const std::optional<double>& value) {
    return value ? fmt::format("{}", *value) : "NaN";
}

std::string colour(std::size_t i) {
    // Told apart by those who see few colours (Okabe and Ito 2008).
    constexpr std::array kColours{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                  "#e69f00", "#56b4e9", "#7f7f7f", "#000000"};
    return literal(kColours[i % kColours.size()]);
}

std::string twice(const std::string& name, const std::string& data, const std::string& body) {
    std::string script = data;
    for (const auto& [terminal, ending] : {std::pair{"svg size 900,540 font 'sans,12' background rgb 'white'", "svg"},
                                           std::pair{"pngcairo size 900,540 font 'sans,12'", "png"}})
        script += fmt::format("set terminal {} noenhanced\nset output {}\n{}unset output\nreset\n", terminal,
                              literal(fmt::format("{}.{}", name, ending)), body);
    return script;
}

}  // namespace dither::gnuplot
