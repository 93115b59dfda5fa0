#include <fmt/format.h>

#include "examples/study/comparison.hpp"
#include "examples/study/draw.hpp"
#include "examples/study/gnuplot.hpp"

namespace dither {
namespace {

using gnuplot::colour;
using gnuplot::literal;
using gnuplot::number;

std::string curve_lines(const std::vector<CurvePoint>& curve) {
    std::string lines;
    for (const CurvePoint& p : curve)
        lines += fmt::format("{} {} {} {}\n", p.x, p.mean, p.mean - p.deviation, p.mean + p.deviation);
    return lines;
}

}  // namespace

void draw_curves(const Study& study, const Plot& plot, Curves& curves, Canvas& canvas) {
    canvas.set("xlabel " + literal(fmt::format("{}{}", fmt::join(plot.over, " + "), plot.cumulated ? ", so far" : "")));
    canvas.set("ylabel " + literal(plot.curve));
    canvas.set("style fill transparent solid 0.15 noborder");
    std::size_t drawn = 0;
    for (const std::size_t method : plot.methods)
        for (const std::size_t point : plot.points) {
            const auto curve = curves.mean_curve(method, point, plot.curve, plot.over, plot.cumulated);
            if (curve.empty())
                continue;
            const std::string block = canvas.block(curve_lines(curve));
            canvas.plot(fmt::format("{} using 1:3:4 with filledcurves lc rgb {} notitle", block, colour(drawn)));
            canvas.plot(fmt::format("{} using 1:2 with lines lw 2 lc rgb {} title {}", block, colour(drawn++),
                                    literal(series_label(study, method, point))));
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
        for (const std::size_t point : plot.points) {
            const std::string label = series_label(study, method, point);
            for (const bool right : {false, true}) {
                const auto curve = curves.mean_curve(method, point, right ? plot.curve2 : plot.curve, {"round"}, false);
                if (!curve.empty())
                    canvas.plot(fmt::format("{} using 1:2 {} lw 2 lc rgb {} title {}", canvas.block(curve_lines(curve)),
                                            right ? "axes x1y2 with lines dt 2" : "with lines", colour(drawn),
                                            literal(label + (right ? ": " + plot.curve2 : ": " + plot.curve))));
            }
            ++drawn;
        }
}

void draw_heatmap(const Plot& plot, Curves& curves, Canvas& canvas) {
    const std::vector<nlohmann::json>& rounds = curves.first_run(plot.methods.front(), plot.points.front());
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

void draw_layers(const Study& study, const Plot& plot, Curves& curves, Canvas& canvas) {
    std::vector<Point> all;
    std::size_t drawn = 0;
    for (const std::size_t point : plot.points)
        for (const auto& [layer, points] :
             curves.layer_points(plot.methods.front(), point, plot.over.front(), plot.curve)) {
            if (points.empty())
                continue;
            std::string lines;
            for (const Point& p : points)
                lines += fmt::format("{} {}\n", p.x, p.y);
            all.insert(all.end(), points.begin(), points.end());
            const std::string label = plot.points.size() == 1 ? layer : layer + ", " + point_label(study, point);
            canvas.plot(fmt::format("{} using 1:2 with points pt 7 ps 0.8 lc rgb {} title {}", canvas.block(lines),
                                    colour(drawn++), literal(label)));
        }
    const auto correlation = rank_correlation(all);
    canvas.set(kRoomAround);
    canvas.set("ylabel " + literal(plot.curve));
    canvas.set("xlabel " + literal(correlation
                                       ? fmt::format("{} (rank correlation {:.2f})", plot.over.front(), *correlation)
                                       : plot.over.front()));
}

void draw_lists(const Study& study, const Plot& plot, Curves& curves, Canvas& canvas) {
    std::size_t drawn = 0;
    for (const std::size_t method : plot.methods)
        for (const std::size_t point : plot.points) {
            const auto along = plot.along ? curves.mean_list(method, point, *plot.along) : std::vector<double>{};
            for (std::size_t i = 0; i < plot.lists.size(); ++i) {
                const std::vector<double> list = curves.mean_list(method, point, plot.lists[i]);
                if (list.empty() || (plot.along && along.size() != list.size()))
                    continue;
                std::string lines;
                for (std::size_t j = 0; j < list.size(); ++j)
                    lines += fmt::format("{} {}\n", plot.along ? along[j] : static_cast<double>(j), list[j]);
                const std::string series = series_label(study, method, point);
                const std::string label = plot.lists.size() == 1 ? series : series + ": " + plot.labels[i];
                canvas.plot(fmt::format("{} using 1:2 with lines lw 2 lc rgb {} title {}", canvas.block(lines),
                                        colour(drawn++), literal(label)));
            }
        }
    if (plot.along)
        canvas.set("xlabel " + literal(plot.along->text));
    if (plot.lists.size() == 1)
        canvas.set("ylabel " + literal(plot.labels.front()));
}

}  // namespace dither
