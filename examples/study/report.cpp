#include "examples/study/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "core/durable_file.hpp"
#include "core/version.hpp"
#include "examples/study/comparison.hpp"
#include "examples/study/draw.hpp"
#include "examples/study/plots.hpp"

namespace dither {
namespace {

constexpr double kSignificant = 0.05;
constexpr std::size_t kMostFailures = 50;

std::string number(const Metric& metric, const std::optional<double>& value, const char* sign = "") {
    return value ? fmt::format(fmt::runtime(fmt::format("{{:{}{}}}", sign, metric.format)), *value) : "-";
}

std::string interval_text(const Metric& metric, const std::optional<Interval>& interval, const char* sign = "") {
    return interval ? fmt::format("{} .. {}", number(metric, interval->low, sign), number(metric, interval->high, sign))
                    : "-";
}

std::string p_text(const std::optional<double>& p) {
    constexpr double kSmallest = 1e-4;
    return !p ? "-" : *p < kSmallest ? "< 0.0001" : fmt::format("{:.4f}", *p);
}

/// Within a cell of a table.
std::string escaped(const std::string& text) {
    std::string result;
    for (const char c : text)
        result += c == '|' ? std::string("\\|") : std::string(1, c == '\n' ? ' ' : c);
    return result;
}

std::string shell_quoted(const std::string& text) {
    const auto plain = [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) ||
               std::string_view("_-./=,").find(c) != std::string_view::npos;
    };
    if (!text.empty() && std::ranges::all_of(text, plain))
        return text;
    std::string result = "'";
    for (const char c : text)
        result += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return result + "'";
}

std::string duration(double seconds) {
    if (seconds < 120)
        return fmt::format("{:.1f} s", seconds);
    return seconds < 7200 ? fmt::format("{:.1f} min", seconds / 60) : fmt::format("{:.1f} h", seconds / 3600);
}

class Report {
public:
    Report(const Study& study, const StudyText& text, const std::vector<Result>& results)
        : study_(study), text_(text), results_(results) {}

    std::string write() {
        head();
        for (const std::size_t metric : study_.tables)
            table(metric);
        for (const Plot& plot : study_.plots)
            picture(plot);
        failures();
        notes();
        return std::move(out_);
    }

private:
    template <typename... Args>
    void line(fmt::format_string<Args...> format, Args&&... args) {
        out_ += fmt::format(format, std::forward<Args>(args)...) + '\n';
    }

    std::string command() const {
        std::string command = fmt::format("dither-study {} --out DIR", shell_quoted(text_.study_file));
        if (text_.profile != "full")
            command += " --profile " + shell_quoted(text_.profile);
        for (const std::string& override : text_.overrides)
            command += " --set " + shell_quoted(override);
        return command;
    }

    std::size_t count(RowState state) const {
        return static_cast<std::size_t>(std::ranges::count(results_, state, &Result::state));
    }

    void head() {
        std::map<std::string, double> seconds;  // of the cells: rows may share them
        std::set<std::string> processors;
        for (const Result& result : results_)
            if (result.state == RowState::done) {
                seconds[result.row.cell] = result.seconds;
                processors.insert(result.cpu);
            }
        double sum = 0;
        for (const auto& [cell, spent] : seconds)
            sum += spent;
        line("# {}\n\n    {}\n", study_.title, command());
        const std::string on = processors.empty() ? "no machine" : fmt::format("{}", fmt::join(processors, ", "));
        const std::string grid =
            study_.grid.empty() ? "" : fmt::format(", {} points of the grid", study_.grid_points());
        line("- Dither {}, profile {}, on {}.", version(), text_.profile, on);
        line("- {} methods{}, {} seeds: {} rows, of which {} failed and {} were not run. The baseline is {}.",
             study_.methods.size(), grid, study_.seeds.size(), results_.size(), count(RowState::failed),
             count(RowState::missing), study_.methods[study_.baseline].name);
        line("- {} finished cells, which trained for {} in sum.", seconds.size(), duration(sum));
    }

    void table(std::size_t index) {
        const Metric& metric = study_.metrics[index];
        line("\n## {}\n", metric.title);
        line("{} is better{}.\n", metric.higher ? "Higher" : "Lower", metric.unit.empty() ? "" : "; in " + metric.unit);
        line(
            "|{} method | n | failed | mean | deviation | 95 % | against baseline | 95 % | t | Holm | Wilcoxon | d_z |",
            study_.grid.empty() ? "" : " grid |");
        line("|{}---|---|---|---|---|---|---|---|---|---|---|---|", study_.grid.empty() ? "" : "---|");
        for (const MethodSummary& summary : compare(study_, index, results_))
            row(metric, summary);
    }

    void row(const Metric& metric, const MethodSummary& summary) {
        const std::string grid =
            study_.grid.empty() ? "" : fmt::format(" {} |", escaped(point_label(study_, summary.point)));
        const std::string absent = summary.missing > 0 ? fmt::format(" + {} without", summary.missing) : "";
        const std::string own =
            fmt::format("|{} {} | {} | {}{} | {} | {} | {} |", grid, escaped(study_.methods[summary.method].name),
                        summary.values.size(), summary.failed, absent, number(metric, summary.mean),
                        number(metric, summary.deviation), interval_text(metric, summary.interval));
        line("{}{}", own, difference(metric, summary));
    }

    std::string difference(const Metric& metric, const MethodSummary& summary) const {
        if (!summary.difference)
            return summary.method == study_.baseline ? " baseline | | | | | |" : " - | | | | | |";
        const Difference& d = *summary.difference;
        const bool significant = d.t_test_holm && *d.t_test_holm < kSignificant;
        const char* const bold = significant ? "**" : "";
        return fmt::format(" {0}{1}{0} | {2} | {3} | {4} | {5} | {6} |", bold, number(metric, d.mean, "+"),
                           interval_text(metric, d.interval, "+"), p_text(d.t_test), p_text(d.t_test_holm),
                           p_text(d.wilcoxon), d.dz ? fmt::format("{:+.2f}", *d.dz) : "-");
    }

    void picture(const Plot& plot) {
        line("\n## {}\n\n![{}](plots/{}.svg)", plot.title, plot.title, plot.name);
        if (plot.kind == PlotKind::scatter_pareto)
            front(plot);
    }

    void front(const Plot& plot) {
        const Metric& x = study_.metrics[plot.x];
        const Metric& y = study_.metrics[plot.y];
        line("\n| method | {} | {} | on the front |\n|---|---|---|---|", escaped(x.title), escaped(y.title));
        for (const ParetoPoint& p : pareto_points(study_, plot, results_))
            line("| {} | {} | {} | {} |", escaped(p.label), number(x, p.mean.x), number(y, p.mean.y),
                 p.on_front ? "yes" : "");
        const std::vector<Point> cells = cell_points(plot, results_);
        if (const auto correlation = rank_correlation(cells))
            line("\nRank correlation of the two over {} finished cells: {:.2f}.", cells.size(), *correlation);
    }

    void failures() {
        const std::size_t failed = count(RowState::failed);
        if (failed == 0)
            return;
        line("\n## Failures\n\n| method |{} seed | why | cell |\n|---|{}---|---|---|",
             study_.grid.empty() ? "" : " grid |", study_.grid.empty() ? "" : "---|");
        std::size_t shown = 0;
        for (const Result& result : results_)
            if (result.state == RowState::failed && shown++ < kMostFailures)
                line("| {} |{} {} | {} | {} |", escaped(study_.methods[result.row.method].name),
                     study_.grid.empty() ? "" : fmt::format(" {} |", escaped(point_label(study_, result.row.point))),
                     result.row.seed, escaped(result.failure), result.row.cell);
        if (failed > kMostFailures)
            line("\n{} more are in results.csv.", failed - kMostFailures);
    }

    void notes() {
        line("\n## How to read this\n");
        line(
            "- n: the seeds that gave a value. 95 %: bootstrap interval of the mean (BCa, {} resamples; Efron 1979, "
            "1987).",
            kResamples);
        line(
            "- Against baseline: method less baseline, mean over the seeds that both have, paired. t: Student's paired "
            "test; Holm: the same, corrected for all comparisons of the table (Holm 1979), **bold** below {}; "
            "Wilcoxon: signed ranks, exact up to {} pairs. Both are two-sided.",
            kSignificant, kExactWilcoxon);
        line("- d_z: mean over deviation of the paired differences (Cohen 1988).");
        line("- Rank correlation: Spearman's, over the cells of all methods drawn, each seed's for itself.");
        line("- Few seeds prove little: with n pairs Wilcoxon's p cannot be below 2^(1 - n).");
        line(
            "- A row for each method, grid point and seed: results.csv and results.jsonl. What each run left: cells/.");
    }

    const Study& study_;
    const StudyText& text_;
    const std::vector<Result>& results_;
    std::string out_;
};

}  // namespace

std::string write_report(const Study& study, const StudyText& text, const std::vector<Result>& results) {
    return Report(study, text, results).write();
}

std::string write_outputs(const Study& study, const StudyFolder& folder, const std::vector<Result>& results) {
    write_durably(folder.path() / "results.jsonl", to_jsonl(study, results));
    write_durably(folder.path() / "results.csv", to_csv(study, results));
    write_durably(folder.path() / "report.md", write_report(study, folder.text(), results));
    return draw_plots(study, folder, results);
}

}  // namespace dither
