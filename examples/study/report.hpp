// The report of a study, Markdown.
#pragma once

#include <string>
#include <vector>

#include "examples/study/results.hpp"

namespace dither {

/// Tables of every metric, Pareto fronts, plots and failures. Depends on the study and its results alone: whatever
/// interrupted the study, and however many cells ran at a time, the same bytes.
std::string write_report(const Study& study, const StudyText& text, const std::vector<Result>& results);

/// Writes DIR/results.jsonl, results.csv, report.md and plots/. Returns what draw_plots does. Throws IoError.
std::string write_outputs(const Study& study, const StudyFolder& folder, const std::vector<Result>& results);

}  // namespace dither
