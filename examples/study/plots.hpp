// The plots of a study, by gnuplot.
#pragma once

#include <string>
#include <vector>

#include "examples/study/curves.hpp"
#include "examples/study/results.hpp"
#include "examples/study/statistics.hpp"

namespace dither {

/// A method at a point of the grid, means over the seeds in which both metrics have a value.
struct ParetoPoint {
    std::string label;
    std::size_t method = 0;
    Point mean;
    bool on_front = false;
};
/// Of a scatter_pareto plot, those with a value, by method and point.
std::vector<ParetoPoint> pareto_points(const Study& study, const Plot& plot, const std::vector<Result>& results);

/// A gnuplot script that draws NAME.svg and NAME.png into the folder that it runs in. Empty where the results have
/// nothing to draw.
std::string plot_script(const Study& study, const Plot& plot, const std::vector<Result>& results, Curves& curves);

/// Writes plots/NAME.gp, the script of each plot, and runs it. Returns a sentence that says which pictures there are
/// not and why, an empty one if there are all. Throws IoError.
std::string draw_plots(const Study& study, const StudyFolder& folder, const std::vector<Result>& results);

}  // namespace dither
