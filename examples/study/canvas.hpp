// A gnuplot script in the making.
#pragma once

#include <string>

#include "examples/study/study_file.hpp"

namespace dither {

/// Keeps labels and points off the frame.
inline constexpr const char* kRoomAround = "offsets graph 0.03, graph 0.03, graph 0.03, graph 0.03";

/// Data blocks, settings, and what is plotted.
class Canvas {
public:
    explicit Canvas(const Plot& plot);

    /// A line "set OPTION".
    void set(const std::string& option);
    /// `lines` as a data block; its name.
    std::string block(const std::string& lines);
    /// One more element of the plot command.
    void plot(const std::string& element);
    /// Empty where nothing is plotted.
    std::string script() const;

private:
    std::string name_, data_, settings_, elements_;
    std::size_t blocks_ = 0;
};

/// A metric's title with its unit.
std::string axis_title(const Metric& metric);
/// A method and, where the grid has several, its point.
std::string series_label(const Study& study, std::size_t method, std::size_t point);

}  // namespace dither
