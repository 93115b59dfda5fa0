#include "examples/study/plots.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <map>
#include <utility>

#include "core/durable_file.hpp"
#include "core/error.hpp"
#include "examples/study/comparison.hpp"
#include "examples/study/gnuplot.hpp"

namespace dither {
namespace {

using gnuplot::colour;
using gnuplot::literal;
using gnuplot::number;

constexpr const char* kRoomAround = "offsets graph 0.03, graph 0.03, graph 0.03, graph 0.03";

std::string axis_title(const Metric& metric) {
    return metric.unit.empty() ? metric.title : fmt::format("{}, {}", metric.title, metric.unit);
}

std::string series_label(const Study& study, std::size_t method, std::size_t point) {
    const std::string& name = study.methods[method].name;
    return study.grid_points() == 1 ? name : fmt::format("{}, {}", name, point_label(study, point));
}

/// A script in the making: data blocks, settings, and what is plotted.
class Canvas {
public:
    explicit Canvas(const Plot& plot) : name_(plot.name) {
        set(fmt::format("title {}", literal(plot.title)));
        set("grid");
        set("key outside top center horizontal width 2");
        if (plot.logscale_x)
            set("logscale x");
        if (plot.logscale_y)
            set("logscale y");
    }

    void set(const std::string& option) { settings_ += fmt::format("set {}\n", option); }
    /// `lines` as a data block; its name.
    std::string block(const std::string& lines) {
        data_ += fmt::format("$d{} << EOD\n{}EOD\n", blocks_, lines);
        return fmt::format("$d{}", blocks_++);
    }
    void plot(const std::string& element) { elements_ += (elements_.empty() ? "plot " : ", \\\n    ") + element; }

    std::string script() const {
        return elements_.empty() ? std::string() : gnuplot::twice(name_, data_, settings_ + elements_ + "\n");
    }

private:
    std::string name_, data_, settings_, elements_;
    std::size_t blocks_ = 0;
};

/// The summary of a method at a point; compare() lists them by point and method.
const MethodSummary& at(const Study& study, const std::vector<MethodSummary>& all, std::size_t method,
                        std::size_t point) {
    return all[point * study.methods.size() + method];
}

bool has_values(const std::vector<MethodSummary>& all) {
    return std::ranges::any_of(all, [](const MethodSummary& summary) { return summary.mean.has_value(); });
}

/// "mean low high"
std::string with_interval(const MethodSummary& summary) {
    const double centre = summary.mean.value_or(NAN);
    const Interval interval = summary.interval.value_or(Interval{centre, centre});
    return fmt::format("{} {} {}", number(summary.mean),
                       number(summary.mean ? std::optional(interval.low) : std::nullopt),
                       number(summary.mean ? std::optional(interval.high) : std::nullopt));
}

void draw_bars(const Study& study, const Plot& plot, const std::vector<Result>& results, Canvas& canvas) {
    const std::vector<MethodSummary> all = compare(study, plot.y, results);
    if (!has_values(all))
        return;
    std::string lines;
    for (std::size_t point = 0; point < study.grid_points(); ++point) {
        lines += fmt::format("\"{}\"", study.grid.empty() ? study.title : point_label(study, point));
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
    for (std::size_t i = 0; i < plot.methods.size(); ++i)
        canvas.plot(fmt::format("{} using {}:{}:{}:xtic(1) lc rgb {} title {}", block, 3 * i + 2, 3 * i + 3, 3 * i + 4,
                                colour(i), literal(study.methods[plot.methods[i]].name)));
}

std::optional<double> as_number(const std::string& text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

/// ", bits = 4" of each.
std::string label_of(const std::vector<Setting>& settings) {
    std::string label;
    for (const Setting& setting : settings)
        label += fmt::format(", {}", short_text(setting));
    return label;
}

/// A metric over one axis: a line for each method and each choice of the other axes.
void draw_over_axis(const Study& study, const Plot& plot, const std::vector<Result>& results, Canvas& canvas) {
    const std::vector<MethodSummary> all = compare(study, plot.y, results);
    if (!has_values(all))
        return;
    const auto axis = std::ranges::find(study.grid, plot.axis, &Axis::key);
    const auto column = static_cast<std::size_t>(axis - study.grid.begin());
    const bool numbers =
        std::ranges::all_of(axis->values, [](const Setting& value) { return as_number(value.value).has_value(); });
    std::map<std::pair<std::size_t, std::string>, std::string> series;
    std::string tics;
    for (std::size_t point = 0; point < study.grid_points(); ++point) {
        std::vector<Setting> values = study.grid_point(point);
        const std::string own = values[column].value;
        values.erase(values.begin() + static_cast<std::ptrdiff_t>(column));
        const auto place = std::ranges::find(axis->values, own, &Setting::value) - axis->values.begin();
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

std::string curve_lines(const std::vector<CurvePoint>& curve) {
    std::string lines;
    for (const CurvePoint& p : curve)
        lines += fmt::format("{} {} {} {}\n", p.x, p.mean, p.mean - p.deviation, p.mean + p.deviation);
    return lines;
}

void draw_curves(const Study& study, const Plot& plot, Curves& curves, Canvas& canvas) {
    canvas.set("xlabel " + literal(plot.cumulated ? plot.over + ", sum" : plot.over));
    canvas.set("ylabel " + literal(plot.curve));
    canvas.set("style fill transparent solid 0.15 noborder");
    std::size_t drawn = 0;
    for (const std::size_t method : plot.methods)
        for (std::size_t point = 0; point < study.grid_points(); ++point) {
            const auto curve = curves.mean_curve(method, point, plot.curve, plot.over, plot.cumulated);
            if (curve.empty())
                continue;
            const std::string block = canvas.block(curve_lines(curve));
            canvas.plot(fmt::format("{} using 1:3:4 with filledcurves lc rgb {} notitle", block, colour(drawn)));
            canvas.plot(fmt::format("{} using 1:2 with lines lw 2 lc rgb {} title {}", block, colour(drawn++),
                                    literal(series_label(study, method, point))));
        }
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
        if (std::ranges::find(plot.methods, summary.method) == plot.methods.end())
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

void draw_two_axes(const Study& study, const Plot& plot, Curves& curves, Canvas& canvas) {
    canvas.set("xlabel 'round'");
    canvas.set("ylabel " + literal(plot.curve));
    canvas.set("y2label " + literal(plot.curve2));
    canvas.set("ytics nomirror");
    canvas.set("y2tics");
    std::size_t drawn = 0;
    for (const std::size_t method : plot.methods)
        for (std::size_t point = 0; point < study.grid_points(); ++point) {
            const std::string label = series_label(study, method, point);
            for (const bool right : {false, true}) {
                const auto curve = curves.mean_curve(method, point, right ? plot.curve2 : plot.curve, "round", false);
                if (!curve.empty())
                    canvas.plot(fmt::format("{} using 1:2 {} lw 2 lc rgb {} title {}", canvas.block(curve_lines(curve)),
                                            right ? "axes x1y2 with lines dt 2" : "with lines", colour(drawn),
                                            literal(label + (right ? ": " + plot.curve2 : ": " + plot.curve))));
            }
            ++drawn;
        }
}

/// Bits of each layer in each round: 2 = blue to 32 = red.
void draw_heatmap(const Plot& plot, Curves& curves, Canvas& canvas) {
    const std::vector<nlohmann::json>& rounds = curves.first_run(plot.methods.front());
    if (rounds.empty())
        return;
    const nlohmann::json layers = rounds.front().value("layers", nlohmann::json::array());
    std::string lines, names;
    for (const nlohmann::json& round : rounds)
        for (std::size_t i = 0; i < layers.size(); ++i)
            lines += fmt::format(
                "{} {} {}\n", number(number_at(round, parse_json_steps("round"))), i,
                number(number_at(round, parse_json_steps(fmt::format("layers[{}].bits.{}", i, plot.phase)))));
    for (std::size_t i = 0; i < layers.size(); ++i)
        names += fmt::format("{}{} {}", i == 0 ? "" : ", ", literal(layers[i].value("name", "")), i);
    canvas.set("ytics (" + names + ")");
    canvas.set(fmt::format("yrange [{}.5:-0.5]", layers.size() - 1));
    canvas.set("xlabel 'round'");
    canvas.set("logscale cb 2");
    canvas.set("cbrange [2:32]");
    canvas.set("cbtics (2, 4, 8, 16, 32)");
    canvas.set("cblabel 'bits'");
    canvas.set("palette defined (1 '#1b2f66', 2 '#2c5fb3', 3 '#7fb8d6', 4 '#f2a45c', 5 '#b3202c')");
    canvas.plot(canvas.block(lines) + " using 1:2:3 with image notitle");
}

/// False if gnuplot is not there or refuses the script.
bool run_gnuplot(const std::filesystem::path& folder, const std::string& script) {
    std::FILE* const gnuplot = popen("gnuplot - 2>/dev/null", "w");
    if (gnuplot == nullptr)
        return false;
    const std::string whole = fmt::format("cd {}\n{}", literal(folder.string()), script);
    std::fwrite(whole.data(), 1, whole.size(), gnuplot);
    return pclose(gnuplot) == 0;
}

}  // namespace

std::vector<ParetoPoint> pareto_points(const Study& study, const Plot& plot, const std::vector<Result>& results) {
    std::vector<ParetoPoint> points;
    for (const std::size_t method : plot.methods)
        for (std::size_t point = 0; point < study.grid_points(); ++point) {
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
