#include "examples/study/plot_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/choice.hpp"
#include "core/error.hpp"
#include "core/words.hpp"
#include "examples/study/comparison.hpp"

namespace dither {
namespace {

constexpr std::array kKinds{
    ChoiceRow<PlotKind>{"bars", "a metric's means with their intervals", PlotKind::bars},
    ChoiceRow<PlotKind>{"lines", "a metric over an axis, or a key of rounds.jsonl over the rounds", PlotKind::lines},
    ChoiceRow<PlotKind>{"scatter_pareto", "two metrics and their Pareto front", PlotKind::scatter_pareto},
    ChoiceRow<PlotKind>{"heatmap_precision", "bits of each layer in each round", PlotKind::heatmap_precision},
    ChoiceRow<PlotKind>{"histogram", "a metric's values over all seeds", PlotKind::histogram},
    ChoiceRow<PlotKind>{"two_axes", "two keys of rounds.jsonl over the rounds", PlotKind::two_axes},
    ChoiceRow<PlotKind>{"layers", "two keys of each layer in each round", PlotKind::layers},
    ChoiceRow<PlotKind>{"lists", "lists of numbers that a cell left", PlotKind::lists},
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

std::string check_curve(const StrictTable& table, std::string_view key, const std::string& curve) {
    try {
        parse_json_steps(curve);
    } catch (const InputError&) {
        table.fail(key, "expected a key of rounds.jsonl, such as \"test_accuracy\" or \"layers[0].grad_norm\"");
    }
    return curve;
}

std::string read_curve(StrictTable& table, std::string_view key) {
    return check_curve(table, key, table.text(key));
}

/// A text, or a list of them.
std::vector<std::string> read_curves(StrictTable& table, std::string_view key) {
    const toml::node* const node = table.find(key);
    if (node == nullptr || node->is_string())
        return {read_curve(table, key)};
    std::vector<std::string> curves = table.texts(key);
    if (curves.empty())
        table.fail(key, *node, "a key of rounds.jsonl, or a list of them");
    for (const std::string& curve : curves)
        check_curve(table, key, curve);
    return curves;
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
        plot.over = read_curves(table, "over");
    plot.cumulated = table.flag("cumulated", plot.cumulated);
}

/// A path to a list, which only some places can have.
MetricPath read_list(StrictTable& table, std::string_view key, const std::string& text, const Study& study) {
    MetricPath path = read_path(table, key, text, study);
    if (path.source == MetricSource::rounds)
        table.fail(key, "expected summary.KEY, round[N].KEY or evaluate.NAME.KEY: one list of a run");
    return path;
}

void read_lists(StrictTable& table, const Study& study, Plot& plot) {
    plot.labels = table.texts("labels");
    const std::vector<std::string> lists = table.texts("y");
    if (lists.empty())
        table.fail("y", "expected a list of paths, such as \"evaluate.errors.errors.layers[0].weights.share\"");
    for (const std::string& text : lists)
        plot.lists.push_back(read_list(table, "y", text, study));
    if (table.find("x") != nullptr)
        plot.along = read_list(table, "x", table.text("x"), study);
    if (plot.labels.empty())
        plot.labels = lists;
    if (plot.labels.size() != lists.size())
        table.fail("labels", fmt::format("expected {} of them, one for each list of y", lists.size()));
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
        case PlotKind::layers:
            plot.over = {read_curve(table, "x")};
            plot.curve = read_curve(table, "y");
            break;
        case PlotKind::lists:
            read_lists(table, study, plot);
            break;
        case PlotKind::heatmap_precision:
            plot.phase = table.text("phase", plot.phase);
            if (const std::array known{"forward", "backward", "optimizer", "uplink", "downlink"};
                std::ranges::find(known, plot.phase) == known.end())
                table.fail("phase", "expected forward, backward, optimizer, uplink or downlink");
    }
}

std::vector<Plot> one_for_each_point(const Plot& plot, const Study& study) {
    std::vector<Plot> plots;
    for (const std::size_t point : plot.points) {
        plots.push_back(plot);
        plots.back().name += fmt::format("-{}", point + 1);
        plots.back().title += study.grid.empty() ? "" : ": " + point_label(study, point);
        plots.back().points = {point};
    }
    return plots;
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

MetricPath read_path(StrictTable& table, std::string_view key, const std::string& text, const Study& study) {
    MetricPath path;
    try {
        path = parse_metric_path(text);
    } catch (const InputError& error) {
        table.fail(key, error.what());
    }
    if (path.source == MetricSource::evaluate)
        index_of(table, key, "[[evaluate]]", path.evaluation, study.evaluations);
    return path;
}

std::vector<Plot> read_plots(StrictTable& table, const Study& study) {
    Plot plot{.kind = read_kind(table), .name = table.text("name")};
    check_name(table, "name", plot.name);
    plot.title = table.text("title", plot.name);
    plot.logscale_x = table.flag("log_x", false);
    plot.logscale_y = table.flag("log_y", false);
    const std::vector<std::string> methods = table.texts("methods");
    for (const std::string& name : methods)
        if (std::ranges::find(study.left_out, name) == study.left_out.end())
            plot.methods.push_back(index_of(table, "methods", "method", name, study.methods));
    if (methods.empty())
        plot.methods = all_of(study.methods);
    plot.points.resize(study.grid_points());
    std::iota(plot.points.begin(), plot.points.end(), std::size_t{0});
    read_particulars(table, study, plot);
    const bool apart = table.flag("apart", false);
    table.finish();
    if (plot.methods.empty())  // the profile runs none of them
        return {};
    return apart ? one_for_each_point(plot, study) : std::vector{plot};
}

}  // namespace dither
