#include "examples/study/plot_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/choice.hpp"
#include "core/error.hpp"
#include "core/words.hpp"

namespace dither {
namespace {

constexpr std::array kKinds{
    ChoiceRow<PlotKind>{"bars", "a metric's means with their intervals", PlotKind::bars},
    ChoiceRow<PlotKind>{"lines", "a metric over an axis, or a key of rounds.jsonl over the rounds", PlotKind::lines},
    ChoiceRow<PlotKind>{"scatter_pareto", "two metrics and their Pareto front", PlotKind::scatter_pareto},
    ChoiceRow<PlotKind>{"heatmap_precision", "bits of each layer in each round", PlotKind::heatmap_precision},
    ChoiceRow<PlotKind>{"histogram", "a metric's values over all seeds", PlotKind::histogram},
    ChoiceRow<PlotKind>{"two_axes", "two keys of rounds.jsonl over the rounds", PlotKind::two_axes},
};

PlotKind read_kind(StrictTable& table) {
    try {
        return choose(kKinds, "kind", table.text("kind"));
    } catch (const InputError& error) {
        throw InputError(fmt::format("{}: {}", table.where("kind"), error.what()));
    }
}

std::size_t read_metric(StrictTable& table, std::string_view key, const Study& study) {
    return index_of(table, key, "metric", table.text(key), study.metrics);
}

std::string read_curve(StrictTable& table, std::string_view key) {
    const std::string curve = table.text(key);
    try {
        parse_json_steps(curve);
    } catch (const InputError&) {
        table.fail(key, "expected a key of rounds.jsonl, such as \"test_accuracy\" or \"layers[0].grad_norm\"");
    }
    return curve;
}

std::string read_axis(StrictTable& table, const Study& study) {
    const std::string axis = table.text("axis");
    std::vector<std::string> known;
    for (const Axis& a : study.grid)
        known.push_back(a.key);
    if (std::ranges::find(known, axis) == known.end())
        fail_unknown(table, "axis", "axis of the grid", axis, known);
    return axis;
}

void read_lines(StrictTable& table, const Study& study, Plot& plot) {
    if (table.find("axis") != nullptr) {
        plot.axis = read_axis(table, study);
        plot.y = read_metric(table, "metric", study);
        return;
    }
    plot.curve = read_curve(table, "rounds");
    if (table.find("over") != nullptr)
        plot.over = read_curve(table, "over");
    plot.cumulated = table.flag("cumulated", plot.cumulated);
}

void read_particulars(StrictTable& table, const Study& study, Plot& plot) {
    switch (plot.kind) {
        case PlotKind::bars:
            plot.y = read_metric(table, "metric", study);
            break;
        case PlotKind::histogram:
            plot.y = read_metric(table, "metric", study);
            plot.bins = static_cast<std::uint32_t>(table.integer("bins", 2, 1000).value_or(plot.bins));
            break;
        case PlotKind::scatter_pareto:
            plot.x = read_metric(table, "x", study);
            plot.y = read_metric(table, "y", study);
            break;
        case PlotKind::lines:
            read_lines(table, study, plot);
            break;
        case PlotKind::two_axes:
            plot.curve = read_curve(table, "left");
            plot.curve2 = read_curve(table, "right");
            break;
        case PlotKind::heatmap_precision:
            plot.phase = table.text("phase", plot.phase);
            if (const std::array known{"forward", "backward", "optimizer", "uplink", "downlink"};
                std::ranges::find(known, plot.phase) == known.end())
                table.fail("phase", "expected forward, backward, optimizer, uplink or downlink");
    }
}

}  // namespace

void fail_unknown(const StrictTable& table, std::string_view key, std::string_view what, const std::string& name,
                  std::span<const std::string> known) {
    table.fail(key, known.empty() ? fmt::format("there is no {}", what)
                                  : fmt::format("there is no {} \"{}\"; the nearest one is \"{}\"", what, name,
                                                nearest(name, known)));
}

void check_name(const StrictTable& table, std::string_view key, const std::string& name) {
    const auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
               c == '-';
    };
    constexpr std::size_t kLongest = 64;
    if (name.empty() || name.size() > kLongest || name.front() == '.' || !std::ranges::all_of(name, fits))
        table.fail(key,
                   fmt::format("expected 1 .. {} letters, digits, '.', '_' or '-' that begin with no dot", kLongest));
}

Plot read_plot(StrictTable& table, const Study& study) {
    Plot plot{.kind = read_kind(table), .name = table.text("name")};
    check_name(table, "name", plot.name);
    plot.title = table.text("title", plot.name);
    plot.logscale_x = table.flag("log_x", false);
    plot.logscale_y = table.flag("log_y", false);
    for (const std::string& name : table.texts("methods"))
        plot.methods.push_back(index_of(table, "methods", "method", name, study.methods));
    if (plot.methods.empty())
        plot.methods = all_of(study.methods);
    read_particulars(table, study, plot);
    table.finish();
    return plot;
}

}  // namespace dither
