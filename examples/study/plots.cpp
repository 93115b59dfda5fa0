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
    std::vector<std::string> empty, failed;
    for (const Plot& plot : study.plots) {
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
    std::string why_not;
    if (!empty.empty())
        why_not = fmt::format("no picture of {}: the results have nothing to draw", fmt::join(empty, ", "));
    if (!failed.empty())
        why_not += fmt::format(
            "{}no picture of {}: gnuplot is not installed (Debian: apt-get install gnuplot-nox) or "
            "refused the script in {}",
            why_not.empty() ? "" : "; ", fmt::join(failed, ", "), plots.string());
    return why_not;
}

}  // namespace dither
