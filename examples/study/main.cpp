// dither-study: a grid of jobs x methods x seeds, run beside each other, and what it says: tables, intervals, plots.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <sstream>
#include <thread>

#include "core/error.hpp"
#include "core/version.hpp"
#include "examples/study/progress.hpp"
#include "examples/study/report.hpp"
#include "examples/study/verify.hpp"

namespace dither {
namespace {

namespace fs = std::filesystem;

constexpr int kFailed = 1;
constexpr int kBadInput = 2;

struct Options {
    std::string study;
    std::string folder;
    std::string profile = "full";
    std::vector<std::string> overrides;
    std::string simulate;
    std::string evaluate;
    unsigned jobs = 0;   ///< 0: the cores, or 1 under mpirun
    unsigned ranks = 0;  ///< of each cell; 0: without mpirun
    unsigned cell_timeout = 0;
    bool resume = false;
    bool retry = false;
    bool quiet = false;
    std::string cell;
    std::uint32_t seed = 1;
};

bool is_program(const fs::path& file) {
    return fs::is_regular_file(file) && ::access(file.c_str(), X_OK) == 0;
}

/// The program of this name that lies beside this one, else the one that PATH finds. Throws InputError.
std::string find_program(const std::string& name, const char* option) {
    std::error_code ignored;
    std::vector<fs::path> folders{fs::read_symlink("/proc/self/exe", ignored).parent_path()};
    const char* const path = std::getenv("PATH");
    std::istringstream list(path == nullptr ? "" : path);
    for (std::string folder; std::getline(list, folder, ':');)
        folders.emplace_back(folder);
    for (const fs::path& folder : folders)
        if (is_program(folder / name))
            return fs::absolute(folder / name).string();
    throw InputError(fmt::format("there is no {} beside dither-study or in PATH: say where by {}", name, option));
}

/// Throws InputError where `path` was given and is no program.
std::string program(const std::string& path, const char* option, const std::string& name) {
    if (path.empty())
        return find_program(name, option);
    if (!is_program(path))
        throw InputError(fmt::format("{} {}: expected a program", option, path));
    return fs::absolute(path).string();
}

SchedulerOptions scheduling(const Options& options) {
    SchedulerOptions result{.evaluate = program(options.evaluate, "--evaluate", "dither-evaluate"),
                            .resume = options.resume,
                            .retry = options.retry,
                            .cell_timeout = std::chrono::seconds(options.cell_timeout)};
    if (options.ranks > 0)
        result.simulate = {"mpirun", "-n", fmt::format("{}", options.ranks)};
    else
        result.simulate_arguments = {"--workers", "1"};
    result.simulate.push_back(program(options.simulate, "--simulate", "dither-simulate"));
    const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
    result.jobs = options.jobs > 0 ? options.jobs : options.ranks > 0 ? 1 : cores;
    return result;
}

/// Writes the results of what is there and says where.
void write_all_outputs(const StudyFolder& folder, const Study& study, const std::vector<Result>& results) {
    if (const std::string why_not = write_outputs(study, folder, results); !why_not.empty())
        fmt::print(stderr, "dither-study: {}\n", why_not);
    fmt::print("{}\n", (folder.path() / "report.md").string());
}

int run_study(const Options& options) {
    const StudyText text = read_study_text(options.study, options.profile, options.overrides);
    const Study study = parse_study(text);
    const StudyPlan plan = plan_cells(study, text);
    const SchedulerOptions scheduler = scheduling(options);
    const StudyFolder folder(options.folder, text);
    std::vector<CellFolder> folders;
    for (const Cell& cell : plan.cells)
        folders.push_back(folder.cell(cell.hash, study));
    SchedulerOutcome outcome;
    {
        StudyProgressDisplay display(::isatty(STDERR_FILENO) == 1);
        outcome = Scheduler(plan.cells, std::move(folders), scheduler).run([&](const StudyProgress& progress) {
            if (!options.quiet)
                display.show(progress);
        });
    }
    if (outcome.signal != 0) {
        fmt::print(stderr, "dither-study: stopped after {}; continue with --resume\n", progress_text(outcome.progress));
        return 128 + outcome.signal;
    }
    const std::vector<Result> results = collect_results(study, plan, folder);
    write_all_outputs(folder, study, results);
    const auto failed = std::ranges::count(results, RowState::failed, &Result::state);
    if (failed > 0)
        fmt::print(stderr, "dither-study: {} of {} rows failed; the report says why\n", failed, results.size());
    return failed > 0 ? kFailed : 0;
}

int write_report_again(const Options& options) {
    const StudyFolder folder(options.folder);
    const Study study = parse_study(folder.text());
    const std::vector<Result> results = collect_results(study, plan_cells(study, folder.text()), folder);
    if (std::ranges::all_of(results, [](const Result& result) { return result.state == RowState::missing; }))
        throw InputError(fmt::format("{} holds no cell that Dither {} would run", options.folder, version()));
    write_all_outputs(folder, study, results);
    return 0;
}

int verify(const Options& options) {
    const StudyFolder folder(options.folder);
    const Verification result = verify_cell(folder, options.cell, options.seed, scheduling(options));
    if (result.signal != 0)
        return 128 + result.signal;
    for (const std::string& difference : result.differences)
        fmt::print("{}: {}\n", result.cell, difference);
    if (result.differences.empty())
        fmt::print("{}: the same model and the same {} metrics\n", result.cell, result.compared);
    return result.differences.empty() ? 0 : kFailed;
}

void declare_programs(CLI::App& app, Options& options) {
    app.add_option("--simulate", options.simulate, "dither-simulate (default: beside this program, else by PATH)")
        ->type_name("PATH");
    app.add_option("--evaluate", options.evaluate, "dither-evaluate, likewise")->type_name("PATH");
    app.add_option("--ranks", options.ranks, "Run each cell under mpirun with so many ranks")
        ->check(CLI::Range(1U, 1024U));
}

void declare_study(CLI::App& app, Options& options) {
    app.add_option("STUDY", options.study, "The study file (TOML)");
    app.add_option("--out", options.folder, "The study's folder")->type_name("DIR");
    app.add_option("--profile", options.profile, "A [profile.NAME] of the file, such as quick")
        ->type_name("NAME")
        ->capture_default_str();
    app.add_option("--set", options.overrides, "Override one key of every job: section.key=value")
        ->type_name("K=V")
        ->allow_extra_args(false);
    app.add_option("--jobs", options.jobs, "Cells at a time, of one thread each (default: the cores; 1 with --ranks)")
        ->check(CLI::Range(1U, 4096U));
    app.add_flag("--resume", options.resume, "Continue interrupted runs from their last checkpoints");
    app.add_flag("--retry", options.retry, "Run again what failed");
    app.add_option("--cell-timeout", options.cell_timeout,
                   "A cell that takes longer is killed and has failed (default: none)")
        ->type_name("SECONDS");
    app.add_flag("--quiet", options.quiet, "No progress");
    declare_programs(app, options);
}

constexpr const char* kFooter =
    "A cell that is finished is never run again, and equal ones run once: a study that was stopped, or got another\n"
    "method, is continued by the same command. Jobs are run in the current folder; relative paths of data count from "
    "it.\n"
    "\nExamples:\n"
    "  dither-study examples/studies/t0_qat/study.toml --out runs/t0_qat\n"
    "  dither-study examples/studies/t0_qat/study.toml --out runs/t0_quick --profile quick --jobs 2\n"
    "  dither-study report runs/t0_qat\n"
    "  dither-study verify runs/t0_qat --seed 7\n"
    "\nExit codes: 0 done, 1 a cell failed or differs, 2 bad usage or input, 130/143 stopped by a signal.";

/// Empty when the program should go on; otherwise its exit code.
std::optional<int> parse(int argc, char** argv, Options& options, std::function<int(const Options&)>& work) {
    CLI::App app("Runs a study: every method of a file with every seed, and compares them.");
    app.footer(kFooter);
    declare_study(app, options);
    bool help_study = false;
    app.add_flag("--help-study", help_study, "List every key of a study file");
    app.set_version_flag("--version", fmt::format("dither-study {}", version()));
    app.require_subcommand(0, 1);
    CLI::App* const again = app.add_subcommand("report", "Write results, report and plots of what is there");
    again->add_option("DIR", options.folder, "The study's folder")->required();
    CLI::App* const check = app.add_subcommand("verify", "Run a finished cell again and compare model and metrics");
    check->add_option("DIR", options.folder, "The study's folder")->required();
    check->add_option("--cell", options.cell, "Its hash, or how that begins (default: drawn at random)");
    check->add_option("--seed", options.seed, "Of the draw")->capture_default_str();
    declare_programs(*check, options);
    try {
        app.parse(argc, argv);
        work = again->parsed() ? write_report_again : check->parsed() ? verify : run_study;
        if (!help_study && !again->parsed() && !check->parsed() && (options.study.empty() || options.folder.empty()))
            throw CLI::RequiredError("STUDY and --out, or report or verify,");
    } catch (const CLI::ParseError& error) {
        const bool asked = error.get_exit_code() == 0;  // --help or --version
        app.exit(error, std::cout, std::cerr);
        return asked ? 0 : kBadInput;
    }
    if (help_study)
        std::cout << describe_study_keys();
    return help_study ? std::optional(0) : std::nullopt;
}

int report_error(const std::exception& error, int exit_code) {
    std::cerr << "dither-study: " << error.what() << '\n';
    return exit_code;
}

int run(int argc, char** argv) {
    Options options;
    std::function<int(const Options&)> work;
    const auto exit_code = parse(argc, argv, options, work);
    return exit_code ? *exit_code : work(options);
}

}  // namespace
}  // namespace dither

int main(int argc, char** argv) {
    using namespace dither;
    try {
        return run(argc, argv);
    } catch (const InputError& error) {
        return report_error(error, kBadInput);
    } catch (const std::exception& error) {
        return report_error(error, kFailed);
    }
}
