// What each kind of plot puts on its canvas: nothing where the results have nothing to draw.
#pragma once

#include <string>
#include <vector>

#include "examples/study/canvas.hpp"
#include "examples/study/curves.hpp"
#include "examples/study/results.hpp"

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

/// Both metrics of each finished cell that has them: a cell that several rows share counts once.
std::vector<Point> cell_points(const Plot& plot, const std::vector<Result>& results);

void draw_bars(const Study& study, const Plot& plot, const std::vector<Result>& results, Canvas& canvas);
/// A metric over one axis: a line for each method and each choice of the other axes.
void draw_over_axis(const Study& study, const Plot& plot, const std::vector<Result>& results, Canvas& canvas);
void draw_scatter(const Study& study, const Plot& plot, const std::vector<Result>& results, Canvas& canvas);
void draw_histogram(const Study& study, const Plot& plot, const std::vector<Result>& results, Canvas& canvas);

/// Keys of rounds.jsonl over the rounds.
void draw_curves(const Study& study, const Plot& plot, Curves& curves, Canvas& canvas);
void draw_two_axes(const Study& study, const Plot& plot, Curves& curves, Canvas& canvas);
/// Bits of each layer in each round: 2 = blue to 32 = red.
void draw_heatmap(const Plot& plot, Curves& curves, Canvas& canvas);
/// Two keys of each layer, a point for each round.
void draw_layers(const Study& study, const Plot& plot, Curves& curves, Canvas& canvas);
void draw_lists(const Study& study, const Plot& plot, Curves& curves, Canvas& canvas);

}  // namespace dither
