#include "examples/study/canvas.hpp"

#include <fmt/format.h>

#include "examples/study/comparison.hpp"
#include "examples/study/gnuplot.hpp"

namespace dither {

using gnuplot::literal;

Canvas::Canvas(const Plot& plot) : name_(plot.name) {
    set(fmt::format("title {}", literal(plot.title)));
    set("grid");
    set("key outside top center horizontal width 2");
    if (plot.logscale_x)
        set("logscale x");
    if (plot.logscale_y)
        set("logscale y");
}

void Canvas::set(const std::string& option) {
    settings_ += fmt::format("set {}\n", option);
}

std::string Canvas::block(const std::string& lines) {
    data_ += fmt::format("$d{} << EOD\n{}EOD\n", blocks_, lines);
    return fmt::format("$d{}", blocks_++);
}

void Canvas::plot(const std::string& element) {
    elements_ += (elements_.empty() ? "plot " : ", \\\n    ") + element;
}

std::string Canvas::script() const {
    return elements_.empty() ? std::string() : gnuplot::twice(name_, data_, settings_ + elements_ + "\n");
}

std::string axis_title(const Metric& metric) {
    return metric.unit.empty() ? metric.title : fmt::format("{}, {}", metric.title, metric.unit);
}

std::string series_label(const Study& study, std::size_t method, std::size_t point) {
    const std::string& name = study.methods[method].name;
    return study.grid_points() == 1 ? name : fmt::format("{}, {}", name, point_label(study, point));
}

}  // namespace dither
