#include "examples/study/plots.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "core/durable_file.hpp"
#include "core/error.hpp"
#include "examples/study/draw.hpp"
#include "examples/study/gnuplot.hpp"

namespace dither {
namespace {

/// False if gnuplot is not there or refuses the script.
bool run_gnuplot(const std::filesystem::path& folder, const std::string& script) {
    std::FILE* const gnuplot = popen("gnuplot - 2>/dev/null", "w");
    if (gnuplot == nullptr)
        return false;
    const std::string whole = fmt::format("cd {}\n{}", gnuplot::literal(folder.string()), script);
    std::fwrite(whole.data(), 1, whole.size(), gnuplot);
    return pclose(gnuplot) == 0;
}

/// What a plot of the cells' files reads of each run.
std::vector<MetricPath> paths_of(const Plot& plot) {
    std::vector<MetricPath> paths = plot.lists;
    if (plot.along)
        paths.push_back(*plot.along);
    if (plot.kind == PlotKind::layers)
        for (const std::string& key : {plot.over.front(), plot.curve})
            paths.push_back(parse_metric_path("rounds.mean.layers[0]." + key));
    return paths;
}

/// Why the plot leaves something out: a key that a run does not have; empty where all have all.
std::string fault_of(const Plot& plot, Curves& curves) {
    const std::size_t methods = plot.kind == PlotKind::layers ? 1 : plot.methods.size();  // it draws the first one
    try {
        for (const MetricPath& path : paths_of(plot))
            for (std::size_t i = 0; i < methods; ++i)
                for (const std::size_t point : plot.points)
                    curves.check(plot.methods[i], point, path);
    } catch (const FormatError& error) {
        return fmt::format("{}: {}", plot.name, error.what());
    }
    return "";
}

}  // namespace

std::string plot_script(const Study& study, const Plot& plot, const std::vector<Result>& results, Curves& curves) {
    Canvas canvas(plot);
    switch (plot.kind) {
        case PlotKind::bars:
            draw_bars(study, plot, results, canvas);
            break;
        case PlotKind::lines:
            if (plot.axis.empty())
                draw_curves(study, plot, curves, canvas);
            else
                draw_over_axis(study, plot, results, canvas);
            break;
        case PlotKind::scatter_pareto:
            draw_scatter(study, plot, results, canvas);
            break;
        case PlotKind::heatmap_precision:
            draw_heatmap(plot, curves, canvas);
            break;
        case PlotKind::histogram:
            draw_histogram(study, plot, results, canvas);
            break;
        case PlotKind::two_axes:
            draw_two_axes(study, plot, curves, canvas);
            break;
        case PlotKind::layers:
            draw_layers(study, plot, curves, canvas);
            break;
        case PlotKind::lists:
            draw_lists(study, plot, curves, canvas);
            break;
    }
    return canvas.script();
}

std::string draw_plots(const Study& study, const StudyFolder& folder, const std::vector<Result>& results) {
    const std::filesystem::path plots = folder.path() / "plots";
    Curves curves(study, folder, results);
    std::vector<std::string> empty, failed, why_not;
    for (const Plot& plot : study.plots) {
        if (const std::string fault = fault_of(plot, curves); !fault.empty())
            why_not.push_back(fault);
        const std::string script = plot_script(study, plot, results, curves);
        if (script.empty()) {
            empty.push_back(plot.name);
            continue;
        }
        create_folders(plots);
        write_durably(plots / (plot.name + ".gp"), script);
        if (!run_gnuplot(plots, script))
            failed.push_back(plot.name);
    }
    if (!empty.empty())
        why_not.push_back(fmt::format("no picture of {}: the results have nothing to draw", fmt::join(empty, ", ")));
    if (!failed.empty())
        why_not.push_back(
            fmt::format("no picture of {}: gnuplot is not installed (Debian: apt-get install gnuplot-nox) or "
                        "refused the script in {}",
                        fmt::join(failed, ", "), plots.string()));
    return fmt::format("{}", fmt::join(why_not, "; "));
}

}  // namespace dither
