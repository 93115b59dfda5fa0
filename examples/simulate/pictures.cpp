#include "examples/simulate/pictures.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "core/error.hpp"
#include "examples/study/gnuplot.hpp"

namespace dither {
namespace {

using nlohmann::json;

std::vector<json> read_rounds(const std::filesystem::path& file) {
    std::ifstream in(file);
    std::vector<json> rounds;
    for (std::string line; std::getline(in, line);) {
        json round = json::parse(line, nullptr, false);
        if (round.is_discarded())
            throw FormatError(fmt::format("{}:{}: not a JSON object", file.string(), rounds.size() + 1));
        rounds.push_back(std::move(round));
    }
    if (rounds.empty())
        throw FormatError(fmt::format("{}: no rounds to draw", file.string()));
    return rounds;
}

std::string number(const json& value) {
    return gnuplot::number(value.is_number() ? std::optional(value.get<double>()) : std::nullopt);
}

std::string accuracy_script(const std::vector<json>& rounds, const std::filesystem::path& out) {
    std::string script = "$rounds << EOD\n";
    bool labelled = false;
    for (const json& round : rounds) {
        labelled = labelled || round["test_accuracy"].is_number();
        script += fmt::format("{} {} {} {}\n", number(round["round"]), number(round["train_loss"]),
                              number(round["test_loss"]), number(round["test_accuracy"]));
    }
    script += fmt::format(
        "EOD\nset terminal pngcairo size 900,540 font 'sans,12'\nset output {}\nset xlabel 'round'\nset grid\n"
        "set ylabel 'loss'\nset key outside top center horizontal\n",
        gnuplot::literal(out.string()));
    if (labelled)
        script += "set y2label 'test accuracy, %'\nset y2tics\nset ytics nomirror\n";
    script +=
        "plot $rounds using 1:2 with lines lw 2 lc rgb '#9aa5b1' title 'training loss',"
        " $rounds using 1:3 with lines lw 2 lc rgb '#c0552d' title 'test loss'";
    if (labelled)
        script +=
            ", $rounds using 1:(100*$4) axes x1y2 with linespoints pt 7 ps 0.6 lw 2 lc rgb '#1f5fa8'"
            " title 'test accuracy'";
    return script + "\nunset output\nreset\n";
}

/// One panel: the layers of one phase, first layer on top.
std::string heatmap_panel(const std::vector<json>& rounds, const std::string& phase) {
    const json& layers = rounds.front()["layers"];
    std::string script = fmt::format("${} << EOD\n", phase);
    for (const json& round : rounds)
        for (std::size_t i = 0; i < layers.size(); ++i)
            script += fmt::format("{} {} {}\n", number(round["round"]), i, number(round["layers"][i]["bits"][phase]));
    script += "EOD\nset ytics (";
    for (std::size_t i = 0; i < layers.size(); ++i)
        script += fmt::format("{}{} {}", i == 0 ? "" : ", ", gnuplot::literal(layers[i]["name"].get<std::string>()), i);
    return script + fmt::format(
                        ")\nset title '{0} pass'\nset yrange [{1}.5:-0.5]\nset xrange [{2}-0.5:{3}+0.5]\n"
                        "plot ${0} using 1:2:3 with image notitle\n",
                        phase, layers.size() - 1, number(rounds.front()["round"]), number(rounds.back()["round"]));
}

std::string precision_script(const std::vector<json>& rounds, const std::filesystem::path& out) {
    return fmt::format(
               "set terminal pngcairo size 900,600 font 'sans,12'\nset output {}\nset multiplot layout 2,1\n"
               "set logscale cb 2\nset cbrange [2:32]\nset cbtics (2, 4, 8, 16, 32)\nset cblabel 'bits'\n"
               "set palette defined (1 '#1b2f66', 2 '#2c5fb3', 3 '#7fb8d6', 4 '#f2a45c', 5 '#b3202c')\nset xlabel "
               "'round'\n",
               gnuplot::literal(out.string())) +
           heatmap_panel(rounds, "forward") + heatmap_panel(rounds, "backward") +
           "unset multiplot\nunset output\nreset\n";
}

std::string why_script(const std::vector<json>& rounds, const std::filesystem::path& out) {
    std::string script = "$why << EOD\n";
    bool moved = false;
    for (const json& round : rounds) {
        const json& norm = round["grad_norm"];
        const bool positive = norm.is_number() && norm > 0;  // others have no place on a logarithmic axis
        moved = moved || positive;
        script += fmt::format("{} {} {}\n", number(round["round"]), number(positive ? norm : json()),
                              number(round.value("mean_bits", json())));
    }
    script += fmt::format(
        "EOD\nset terminal pngcairo size 900,540 font 'sans,12'\nset output {}\nset xlabel 'round'\nset grid\n"
        "set key outside top center horizontal\nset y2label 'mean bits'\nset y2tics\nset y2range [0:*]\n",
        gnuplot::literal(out.string()));
    script += moved ? "set ylabel 'gradient norm'\nset logscale y\nset ytics nomirror\nplot $why using 1:2 with lines"
                      " lw 2 lc rgb '#9aa5b1' title 'gradient norm', "
                    : "unset ytics\nplot ";
    return script +
           "$why using 1:3 axes x1y2 with steps lw 2 lc rgb '#1f5fa8' title 'mean bits, forward and backward'\n"
           "unset output\nreset\n";
}

}  // namespace

std::string draw_pictures(const std::filesystem::path& folder) {
    const std::vector<json> rounds = read_rounds(folder / "rounds.jsonl");
    const std::string script = accuracy_script(rounds, folder / "accuracy.png") +
                               precision_script(rounds, folder / "precision.png") +
                               why_script(rounds, folder / "precision_why.png");
    std::FILE* const program = popen("gnuplot - 2>/dev/null", "w");
    if (program == nullptr)
        return "no pictures: gnuplot could not be started";
    std::fwrite(script.data(), 1, script.size(), program);
    if (pclose(program) != 0)
        return "no pictures: gnuplot is not installed or failed (Debian: apt-get install gnuplot-nox)";
    return "";
}

}  // namespace dither
