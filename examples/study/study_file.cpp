#include "examples/study/study_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <utility>

#include "core/error.hpp"
#include "examples/study/plot_table.hpp"

namespace dither {
namespace {

std::string read_file(const std::string& path, std::string_view what) {
    std::ifstream file(path, std::ios::binary);
    if (!file || std::filesystem::is_directory(path))
        throw InputError(fmt::format("{}: cannot read the {}", path, what));
    return {std::istreambuf_iterator<char>(file), {}};
}

/// Throws InputError if `names` has the table's name already.
void check_new(const StrictTable& table, const std::string& name, std::set<std::string>& names) {
    if (!names.insert(name).second)
        table.fail("name", "there is another one of this name");
}

std::vector<Method> read_methods(StrictTable& file) {
    std::vector<Method> methods;
    std::set<std::string> names;
    for (StrictTable& table : file.tables("method")) {
        methods.push_back({.name = table.text("name"), .settings = table.settings("set"), .where = table.where()});
        check_new(table, methods.back().name, names);
        table.finish();
    }
    if (methods.empty())
        file.fail("method", "expected at least one [[method]]");
    return methods;
}

/// An axis of named choices: a table of tables of the job's keys.
Axis read_choices(StrictTable choices, const std::string& key) {
    Axis axis{.key = key, .values = {}};
    for (const std::string& name : choices.keys())
        axis.values.push_back({.key = key, .text = name, .settings = choices.settings(name)});
    return axis;
}

Axis read_axis(StrictTable& grid, const std::string& key) {
    const toml::node& node = *grid.find(key);
    if (node.is_table() && !node.as_table()->empty())
        return read_choices(grid.table(key).value(), key);
    const toml::array* const values = node.as_array();
    if (values == nullptr || values->empty())
        grid.fail(key, node, "a list of values, or a table of choices");
    Axis axis{.key = key, .values = {}};
    for (const toml::node& value : *values) {
        const std::string text = to_inline_toml(value);
        axis.values.push_back({.key = key, .text = text, .settings = {{key, text, grid.where(key)}}});
    }
    return axis;
}

/// Axes of `table`, each instead of one of the same key that is already there.
void read_grid(std::optional<StrictTable> table, std::vector<Axis>& grid) {
    if (!table)
        return;
    for (const std::string& key : table->keys()) {
        Axis axis = read_axis(*table, key);
        const auto found = std::ranges::find(grid, key, &Axis::key);
        if (found == grid.end())
            grid.push_back(std::move(axis));
        else
            *found = std::move(axis);
    }
}

void check_grid(const StrictTable& file, const Study& study) {
    std::map<std::string, const Axis*> varied;
    for (const Axis& axis : study.grid)
        for (const GridValue& value : axis.values)
            for (const Setting& setting : value.settings)
                if (const Axis* other = varied.emplace(setting.key, &axis).first->second; other != &axis)
                    file.fail("grid", fmt::format("the axes {} and {} both set {}", other->key, axis.key, setting.key));
    if (varied.contains("job.seed"))
        file.fail("grid", "job.seed is what study.seeds varies");
    for (const Method& method : study.methods)
        for (const Setting& setting : method.settings)
            if (varied.contains(setting.key))
                throw InputError(fmt::format("{}: method \"{}\" sets {}, which the grid varies", setting.where,
                                             method.name, setting.key));
}

std::vector<Evaluation> read_evaluations(StrictTable& file) {
    std::vector<Evaluation> evaluations;
    std::set<std::string> names;
    for (StrictTable& table : file.tables("evaluate")) {
        evaluations.push_back({.name = table.text("name"), .arguments = table.texts("arguments")});
        check_name(table, "name", evaluations.back().name);
        if (evaluations.back().name.find('.') != std::string::npos)
            table.fail("name", "expected no dot: a metric is from evaluate.NAME.KEY");
        check_new(table, evaluations.back().name, names);
        table.finish();
    }
    return evaluations;
}

std::optional<MetricPath> read_optional_path(StrictTable& table, std::string_view key, const Study& study) {
    return table.find(key) == nullptr ? std::nullopt : std::optional(read_path(table, key, table.text(key), study));
}

void check_format(const StrictTable& table, const std::string& format) {
    const bool fits = format.size() == 3 && format[0] == '.' && format[1] >= '0' && format[1] <= '9' &&
                      std::string_view("efg").find(format[2]) != std::string_view::npos;
    if (!fits)
        table.fail("format", "expected such as \".3f\", \".4g\" or \".2e\"");
}

Metric read_metric(StrictTable& table, const Study& study) {
    Metric metric{.name = table.text("name")};
    metric.title = table.text("title", metric.name);
    metric.from = read_path(table, "from", table.text("from"), study);
    metric.plus = read_optional_path(table, "plus", study);
    metric.minus = read_optional_path(table, "minus", study);
    metric.over = read_optional_path(table, "over", study);
    metric.scale = table.number("scale", metric.scale);
    metric.unit = table.text("unit", metric.unit);
    metric.format = table.text("format", metric.format);
    check_format(table, metric.format);
    const std::string better = table.text("better", "higher");
    if (better != "higher" && better != "lower")
        table.fail("better", "expected \"higher\" or \"lower\"");
    metric.higher = better == "higher";
    metric.timed = table.flag("timed", metric.timed);
    return metric;
}

void read_metrics(StrictTable& file, Study& study) {
    std::set<std::string> names;
    for (StrictTable& table : file.tables("metric")) {
        study.metrics.push_back(read_metric(table, study));
        check_new(table, study.metrics.back().name, names);
        table.finish();
    }
    if (study.metrics.empty())
        file.fail("metric", "expected at least one [[metric]]");
}

/// [study], as far as nothing else need be known.
void read_head(StrictTable& head, Study& study) {
    study.name = head.text("name");
    study.title = head.text("title", study.name);
    study.job = head.text("job");
    study.seeds = head.count_or_list("seeds", {1, 2, 3, 4, 5});
    study.settings = head.settings("set");
}

void read_names(StrictTable& head, Study& study) {
    study.baseline = index_of(head, "baseline", "method", head.text("baseline", study.methods[0].name), study.methods);
    for (const std::string& name : head.texts("metrics"))
        study.tables.push_back(index_of(head, "metrics", "metric", name, study.metrics));
    if (study.tables.empty())
        study.tables = all_of(study.metrics);
}

/// Leaves the methods that the profile names, all if it names none; the baseline has to be one of them.
void choose_methods(StrictTable& profile, Study& study) {
    std::set<std::size_t> chosen;
    for (const std::string& name : profile.texts("methods"))
        chosen.insert(index_of(profile, "methods", "method", name, study.methods));
    if (chosen.empty())
        return;
    if (!chosen.contains(study.baseline))
        profile.fail("methods", fmt::format("expected the baseline \"{}\", too", study.methods[study.baseline].name));
    const std::vector<Method> all = std::exchange(study.methods, {});
    const std::string baseline = all[study.baseline].name;
    for (std::size_t i = 0; i < all.size(); ++i)
        if (chosen.contains(i))
            study.methods.push_back(all[i]);
        else
            study.left_out.push_back(all[i].name);
    study.baseline = index_of(profile, "methods", "method", baseline, study.methods);
}

/// [profile.NAME] of every name is checked; the chosen one counts.
void read_profiles(StrictTable& file, const std::string& chosen, Study& study) {
    std::vector<std::string> known{"full"};
    if (std::optional<StrictTable> profiles = file.table("profile")) {
        for (const std::string& name : profiles->keys()) {
            known.push_back(name);
            StrictTable profile = profiles->table(name).value();
            Study changed = study;
            changed.seeds = profile.count_or_list("seeds", study.seeds);
            changed.profile = profile.settings("set");
            read_grid(profile.table("grid"), changed.grid);
            choose_methods(profile, changed);
            profile.finish();
            if (name == chosen)
                study = std::move(changed);
        }
        if (std::ranges::count(known, "full") > 1)
            profiles->fail("full", "this is the name of the study as it stands: choose another one");
    }
    if (std::ranges::find(known, chosen) == known.end())
        throw InputError(fmt::format("--profile {}: there are {}", chosen, fmt::join(known, ", ")));
}

/// The job's path, which the study's text has relative to itself.
std::string beside(const std::string& study_file, const std::string& job) {
    return (std::filesystem::path(study_file).parent_path() / job).string();
}

}  // namespace

std::size_t Study::grid_points() const {
    std::size_t points = 1;
    for (const Axis& axis : grid)
        points *= axis.values.size();
    return points;
}

std::vector<GridValue> Study::grid_point(std::size_t index) const {
    std::vector<GridValue> values;
    std::size_t stride = grid_points();
    for (const Axis& axis : grid) {
        stride /= axis.values.size();
        values.push_back(axis.values[index / stride % axis.values.size()]);
    }
    return values;
}

Study parse_study(const StudyText& text) {
    const toml::table toml = parse_toml_file(text.study, text.study_file);
    StrictTable file(toml, "", text.study_file);
    std::optional<StrictTable> head = file.table("study");
    if (!head)
        file.fail("study", "expected a table [study]");
    Study study;
    read_head(*head, study);
    study.methods = read_methods(file);
    read_grid(file.table("grid"), study.grid);
    study.evaluations = read_evaluations(file);
    read_metrics(file, study);
    read_names(*head, study);
    head->finish();
    read_profiles(file, text.profile, study);
    check_grid(file, study);
    std::set<std::string> names;
    for (StrictTable& table : file.tables("plot"))
        for (Plot& plot : read_plots(table, study)) {
            check_new(table, plot.name, names);
            study.plots.push_back(std::move(plot));
        }
    file.finish();
    return study;
}

StudyText read_study_text(const std::string& file, const std::string& profile, std::vector<std::string> overrides) {
    StudyText text{.study_file = file,
                   .study = read_file(file, "study file"),
                   .profile = profile,
                   .overrides = std::move(overrides)};
    text.job_file = beside(file, parse_study(text).job);
    text.job = read_file(text.job_file, "job file");
    return text;
}

std::string describe_study_keys() {
    return R"(A study is methods x grid x seeds: cells. Each one is a run of dither-simulate with its own folder.

[study]
name                        a string: names the study, and keys the random numbers of its intervals
title = name                of the report
job                         the job file, relative to this one
seeds = 5                   so many, from 1; or a list. Each is a cell's job.seed; methods are compared seed by seed
baseline = the first        the method that the others are compared with
metrics = all               a list of metrics: the report's tables, in order
set = {}                    keys of the job for every cell: set = { "job.rounds" = 10 }

[[method]]                  one or more
name                        a string
set = {}                    keys of the job, after [study].set

[grid]                      any keys of the job, each a list of values: "federation.partition.alpha" = [0.1, 1.0]
[grid.NAME]                 an axis of named choices, each any keys of the job: "IID" = { "federation.partition" = "iid" }

[[evaluate]]                runs dither-evaluate on each run's model
name                        letters, digits, '_' and '-'
arguments = []              a list of its options: ["--weights", "4"]; {section.key} in them is that key's value in the cell

[[metric]]                  one or more: scale * (from + plus - minus) / over
name                        a string
title = name                of its table
from                        summary.KEY, of summary.json
                            round[N].KEY, of rounds.jsonl; N = -1: the last round
                            rounds.last(N).KEY, the mean of the last N rounds that have a value
                            rounds.mean.KEY, rounds.min.KEY, rounds.max.KEY, rounds.sum.KEY
                            evaluate.NAME.KEY, of an [[evaluate]]'s JSON
                            KEY is a path: layers[0].bits.forward; lists count from 0, -1 is the last
plus, minus, over           likewise; absent: nothing is added, subtracted, divided by
scale = 1                   a number
unit = none                 a string
format = ".4g"              digits: ".3f", ".4g", ".2e"
better = "higher"           or "lower"
timed = false               whether it is measured in time, so that no two runs agree on it

[[plot]]                    any number: NAME.svg and NAME.png, drawn by gnuplot if it is installed
name, title = name          of the files, and above the plot
methods = all               a list of methods
log_x, log_y = false        logarithmic axes
apart = false               a picture for each point of the grid: NAME-1, NAME-2, ...
kind = "bars"               metric: means with their intervals, a cluster for each point of the grid
kind = "lines"              metric, axis: a metric over an axis of the grid
                            rounds, over = "round", cumulated = false: a key of rounds.jsonl over another one or the
                            sum of several (["bytes_up", "bytes_down"]), mean and deviation of the seeds; cumulated:
                            over its sum so far
kind = "scatter_pareto"     x, y: two metrics, and the front that no other point beats; the report has their rank
                            correlation over all cells
kind = "heatmap_precision"  phase = "forward": bits of each layer in each round, first seed of the first method
kind = "histogram"          metric, bins = 20: its values of all seeds
kind = "two_axes"           left, right: two keys of rounds.jsonl over the rounds, means of the seeds
kind = "layers"             x, y: two keys of each layer in rounds.jsonl ("curvature", "bits.forward"), a point for each
                            layer, round and seed of the first method, and their rank correlation; x is of the round
                            before: what is measured in a round decides the next; a value that is missing is the
                            one before
kind = "lists"              y, x = the place in the list, labels = y: lists of numbers, as summary.KEY, round[N].KEY or
                            evaluate.NAME.KEY, means of the seeds

[profile.NAME]              --profile NAME: a variant, such as a quick one
seeds, grid                 instead of the study's, axis by axis
methods = all               a list of those that are run, the baseline among them
set = {}                    keys of the job for every cell, after the method's and the grid's

Order of what sets a key, the last one wins: job file, [study].set, method, grid, profile, --set, seed.
)";
}

}  // namespace dither
