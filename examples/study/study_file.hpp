// A study as its TOML file describes it: methods x grid x seeds over one job, and what is made of the results.
// describe_study_keys() lists every key.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "examples/study/metric_path.hpp"
#include "examples/study/setting.hpp"

namespace dither {

struct Method {
    std::string name;
    std::vector<Setting> settings;
    std::string where;
};

/// One value of an axis: of a key of the job, or a choice that sets several of them.
struct GridValue {
    std::string key;   ///< of the axis
    std::string text;  ///< the value as TOML, or the choice's name
    std::vector<Setting> settings;
};

/// A key of the job, or a name, that takes each of several values.
struct Axis {
    std::string key;
    std::vector<GridValue> values;
};

/// What dither-evaluate is asked about each run's model.
struct Evaluation {
    std::string name;
    std::vector<std::string> arguments;
};

/// scale * (from + plus - minus) / over.
struct Metric {
    std::string name;
    std::string title;  ///< of its table; the name unless it is given
    MetricPath from;
    std::optional<MetricPath> plus;
    std::optional<MetricPath> minus;
    std::optional<MetricPath> over;
    double scale = 1;
    std::string unit;
    std::string format = ".4g";  ///< of fmt
    bool higher = true;          ///< is better
    bool timed = false;          ///< measured in time: never the same twice
};

enum class PlotKind { bars, lines, scatter_pareto, heatmap_precision, histogram, two_axes, layers, lists };

struct Plot {
    PlotKind kind = PlotKind::bars;
    std::string name;  ///< of its files
    std::string title;
    std::vector<std::size_t> methods;  ///< which, all unless they are named
    std::vector<std::size_t> points;   ///< of the grid: all, or the one whose picture it is
    std::size_t x = 0;                 ///< scatter_pareto: a metric
    std::size_t y = 0;                 ///< bars, scatter_pareto, histogram, lines over an axis: a metric
    std::string axis;                  ///< lines: a key of the grid
    std::string curve;   ///< lines over rounds, two_axes: a key of rounds.jsonl; layers: of a layer, along y
    std::string curve2;  ///< two_axes: the one of the right axis
    std::vector<std::string> over{
        "round"};                     ///< lines over rounds: what goes along x, the sum of these keys; layers: a key
    bool cumulated = false;           ///< their sum over the rounds so far does
    std::vector<MetricPath> lists;    ///< lists: of numbers, a line each
    std::vector<std::string> labels;  ///< lists: theirs
    std::optional<MetricPath> along;  ///< lists: what goes along x; else the place in the list
    std::string phase = "forward";    ///< heatmap_precision
    std::uint32_t bins = 20;          ///< histogram
    bool logscale_x = false;
    bool logscale_y = false;
};

struct Study {
    std::string name;
    std::string title;
    std::string job;                ///< the file, relative to the study's
    std::vector<Setting> settings;  ///< of every cell
    std::vector<Setting> profile;   ///< of every cell in this profile
    std::vector<std::uint32_t> seeds;
    std::size_t baseline = 0;           ///< a method
    std::vector<Method> methods;        ///< of this profile
    std::vector<std::string> left_out;  ///< the file's other ones
    std::vector<Axis> grid;
    std::vector<Evaluation> evaluations;
    std::vector<Metric> metrics;      ///< all that are measured
    std::vector<std::size_t> tables;  ///< metrics that the report shows, in order
    std::vector<Plot> plots;

    /// How many points the grid has; 1 without axes.
    std::size_t grid_points() const;
    /// The values of a point, one of each axis; the last axis varies fastest.
    std::vector<GridValue> grid_point(std::size_t index) const;
};

/// Everything that a study is made from, as text, so that its folder can keep it.
struct StudyText {
    std::string study_file;  ///< names it in errors and in the command
    std::string study;
    std::string job_file;
    std::string job;
    std::string profile = "full";
    std::vector<std::string> overrides;  ///< of the command line

    bool operator==(const StudyText&) const = default;
};

/// Reads the study file and the job that it names. Throws InputError.
StudyText read_study_text(const std::string& file, const std::string& profile, std::vector<std::string> overrides);

/// The study in the text's profile; "full" is the file without any [profile.NAME]. Throws InputError that names file,
/// line and key, and the nearest one where a key, method, metric or evaluation is not known.
Study parse_study(const StudyText& text);

/// Every key with its type, default and meaning.
std::string describe_study_keys();

}  // namespace dither
