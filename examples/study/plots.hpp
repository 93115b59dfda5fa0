// The plots of a study, by gnuplot.
#pragma once

#include <string>
#include <vector>

#include "examples/study/curves.hpp"
#include "examples/study/results.hpp"

namespace dither {

/// A gnuplot script that draws NAME.svg and NAME.png into the folder that it runs in. Empty where the results have
/// nothing to draw.
std::string plot_script(const Study& study, const Plot& plot, const std::vector<Result>& results, Curves& curves);

/// Writes plots/NAME.gp, the script of each plot, and runs it. Returns a sentence that says which pictures there are
/// not and why, an empty one if there are all. Throws IoError.
std::string draw_plots(const Study& study, const StudyFolder& folder, const std::vector<Result>& results);

}  // namespace dither
