#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "examples/study/comparison.hpp"
#include "examples/study/draw.hpp"
#include "examples/study/gnuplot.hpp"

namespace dither {
namespace {

using gnuplot::colour;
using gnuplot::literal;
using gnuplot::number;

/// The summary of a method at a point; compare() lists them by point and method.
const MethodSummary& at(const Study& study, const std::vector<MethodSummary>& all, std::size_t method,
                        std::size_t point) {
    return all[point * study.methods.size() + method];
}

bool is_drawn(const Plot& plot, std::size_t method, std::size_t point) {
    return std::ranges::find(plot.methods, method) != plot.methods.end() &&
           std::ranges::find(plot.points, point) != plot.points.end();
}

bool has_values(const std::vector<MethodSummary>& all) {
    return std::ranges::any_of(all, [](const MethodSummary& summary) { return summary.mean.has_value(); });
}

/// A text of a data block.
std::string quoted(std::string text) {
    std::ranges::replace(text, '"', '\'');
    return fmt::format("\"{}\"", text);
}

/// "mean low high"
std::string with_interval(const MethodSummary& summary) {
    const double centre = summary.mean.value_or(NAN);
    const Interval interval = summary.interval.value_or(Interval{centre, centre});
    return fmt::format("{} {} {}", number(summary.mean),
                       number(summary.mean ? std::optional(interval.low) : std::nullopt),
                       number(summary.mean ? std::optional(interval.high) : std::nullopt));
}

std::optional<double> as_number(const std::string& text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

/// ", bits = 4" of each.
std::string label_of(const std::vector<GridValue>& values) {
    std::string label;
    for (const GridValue& value : values)
        label += fmt::format(", {}", short_text(value));
    return label;
}

}  // namespace

void draw_bars(const Study& study, const Plot& plot, const std::vector<Result>& results, Canvas& canvas) {
    const std::vector<MethodSummary> all = compare(study, plot.y, results);
    if (!has_values(all))
        return;
    std::string lines;
    for (const std::size_t point : plot.points) {
        lines += quoted(study.grid.empty() ? study.title : point_label(study, point));
        for (const std::size_t method : plot.methods)
            lines += ' ' + with_interval(at(study, all, method, point));
        lines += '\n';
    }
    if (!plot.logscale_y)
        canvas.set("yrange [*<0:0<*]");  // bars begin at 0
    canvas.set("style data histogram");
    canvas.set("style histogram errorbars gap 2 lw 1");
    canvas.set("style fill solid 0.8");
    canvas.set("ylabel " + literal(axis_title(study.metrics[plot.y])));
    const std::string block = canvas.block(lines);
    const auto drawn = [&](std::size_t method) {  // gnuplot refuses a column without any value
        return std::ranges::any_of(
            all, [&](const MethodSummary& summary) { return summary.method == method && summary.mean; });
    };
    for (std::size_t i = 0; i < plot.methods.size(); ++i)
        if (drawn(plot.methods[i]))
            canvas.plot(fmt::format("{} using {}:{}:{}:xtic(1) lc rgb {} title {}", block, 3 * i + 2, 3 * i + 3,
                                    3 * i + 4, colour(i), literal(study.methods[plot.methods[i]].name)));
}

void draw_over_axis(const Study& study, const Plot& plot, const std::vector<Result>& results, Canvas& canvas) {
    const std::vector<MethodSummary> all = compare(study, plot.y, results);
    if (!has_values(all))
        return;
    const auto axis = std::ranges::find(study.grid, plot.axis, &Axis::key);
    const auto column = static_cast<std::size_t>(axis - study.grid.begin());
    const bool numbers =
        std::ranges::all_of(axis->values, [](const GridValue& value) { return as_number(value.text).has_value(); });
    std::map<std::pair<std::size_t, std::string>, std::string> series;
    std::string tics;
    for (const std::size_t point : plot.points) {
        std::vector<GridValue> values = study.grid_point(point);
        const std::string own = values[column].text;
        values.erase(values.begin() + static_cast<std::ptrdiff_t>(column));
        const auto place = std::ranges::find(axis->values, own, &GridValue::text) - axis->values.begin();
        tics += fmt::format("{}{} {}", tics.empty() ? "" : ", ", literal(own), place);
        for (std::size_t i = 0; i < plot.methods.size(); ++i)
            series[{i, study.methods[plot.methods[i]].name + label_of(values)}] +=
                fmt::format("{} {}\n", numbers ? own : fmt::format("{}", place),
                            with_interval(at(study, all, plot.methods[i], point)));
    }
    if (!numbers)
        canvas.set("xtics (" + tics + ")");
    canvas.set(kRoomAround);
    canvas.set("xlabel " + literal(plot.axis));
    canvas.set("ylabel " + literal(axis_title(study.metrics[plot.y])));
    std::size_t drawn = 0;
    for (const auto& [label, lines] : series)
        canvas.plot(fmt::format("{} using 1:2:3:4 with yerrorlines lw 2 pt 7 ps 0.6 lc rgb {} title {}",
                                canvas.block(lines), colour(drawn++), literal(label.second)));
}

std::vector<ParetoPoint> pareto_points(const Study& study, const Plot& plot, const std::vector<Result>& results) {
    std::vector<ParetoPoint> points;
    for (const std::size_t method : plot.methods)
        for (const std::size_t point : plot.points) {
            std::vector<double> xs, ys;
            for (const Result& result : results)
                if (result.row.method == method && result.row.point == point && result.values[plot.x] &&
                    result.values[plot.y]) {
                    xs.push_back(*result.values[plot.x]);
                    ys.push_back(*result.values[plot.y]);
                }
            if (!xs.empty())
                points.push_back({series_label(study, method, point), method, {mean(xs), mean(ys)}, false});
        }
    std::vector<Point> means;
    for (const ParetoPoint& p : points)
        means.push_back(p.mean);
    const std::vector<bool> front = pareto_front(means, study.metrics[plot.x].higher, study.metrics[plot.y].higher);
    for (std::size_t i = 0; i < points.size(); ++i)
        points[i].on_front = front[i];
    return points;
}

std::vector<Point> cell_points(const Plot& plot, const std::vector<Result>& results) {
    std::set<std::string> seen;
    std::vector<Point> points;
    for (const Result& result : results) {
        const auto& x = result.values[plot.x];
        const auto& y = result.values[plot.y];
        if (is_drawn(plot, result.row.method, result.row.point) && x && y && seen.insert(result.row.cell).second)
            points.push_back({*x, *y});
    }
    return points;
}

void draw_scatter(const Study& study, const Plot& plot, const std::vector<Result>& results, Canvas& canvas) {
    std::vector<ParetoPoint> points = pareto_points(study, plot, results);
    if (points.empty())
        return;
    canvas.set(kRoomAround);
    canvas.set("xlabel " + literal(axis_title(study.metrics[plot.x])));
    canvas.set("ylabel " + literal(axis_title(study.metrics[plot.y])));
    for (std::size_t i = 0; i < points.size(); ++i)
        canvas.plot(fmt::format("{} using 1:2 with points pt {} ps 1.4 lc rgb {} title {}",
                                canvas.block(fmt::format("{} {}\n", points[i].mean.x, points[i].mean.y)),
                                points[i].on_front ? 7 : 6, colour(i), literal(points[i].label)));
    std::erase_if(points, [](const ParetoPoint& p) { return !p.on_front; });
    std::ranges::sort(points, {}, [](const ParetoPoint& p) { return p.mean.x; });
    std::string front;
    for (const ParetoPoint& p : points)
        front += fmt::format("{} {}\n", p.mean.x, p.mean.y);
    canvas.plot(canvas.block(front) + " using 1:2 with lines dt 2 lc rgb '#555555' title 'Pareto front'");
}

void draw_histogram(const Study& study, const Plot& plot, const std::vector<Result>& results, Canvas& canvas) {
    const std::vector<MethodSummary> all = compare(study, plot.y, results);
    std::vector<double> every;
    for (const MethodSummary& summary : all)
        if (is_drawn(plot, summary.method, summary.point))
            every.insert(every.end(), summary.values.begin(), summary.values.end());
    if (every.empty())
        return;
    const auto [low, high] = std::ranges::minmax(every);
    const double width = high > low ? (high - low) / plot.bins : 1;
    canvas.set("xlabel " + literal(axis_title(study.metrics[plot.y])));
    canvas.set("ylabel 'runs'");
    canvas.set("yrange [0:*]");
    std::size_t drawn = 0;
    for (const MethodSummary& summary : all) {
        if (!is_drawn(plot, summary.method, summary.point))
            continue;
        std::vector<std::size_t> counts(plot.bins);
        for (const double value : summary.values)
            ++counts[std::min<std::size_t>(plot.bins - 1, static_cast<std::size_t>((value - low) / width))];
        std::string lines;
        for (std::size_t bin = 0; bin < counts.size(); ++bin)
            lines += fmt::format("{} {}\n", low + (static_cast<double>(bin) + 0.5) * width, counts[bin]);
        canvas.plot(fmt::format("{} using 1:2 with histeps lw 2 lc rgb {} title {}", canvas.block(lines),
                                colour(drawn++), literal(series_label(study, summary.method, summary.point))));
    }
}

}  // namespace dither
