// simulation: federations with faults, one for each seed, until one breaks a promise.
#include "core/error.hpp"
#include "tests/simulation/reference.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <iostream>

#include <fmt/format.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

namespace {

using namespace dither;
using namespace dither::simulation;

struct Options {
    std::uint32_t first = 1;
    std::uint32_t seeds = 300;
    double minutes = 0;
    bool trace = false;
    bool keep_going = false;
    std::filesystem::path scratch;
};

struct Totals {
    std::uint32_t federations = 0;
    std::uint32_t failed = 0;
    std::uint64_t rounds = 0;
    std::uint64_t abandoned = 0;
    std::uint64_t processes = 0;
    std::uint64_t acknowledged = 0;
    std::uint64_t refused = 0;
    double virtual_hours = 0;

    void add(const Outcome& outcome) {
        ++federations;
        rounds += outcome.rounds.size();
        abandoned += static_cast<std::uint64_t>(
            std::ranges::count_if(outcome.rounds, [](const EndedRound& round) { return round.participants.empty(); }));
        processes += outcome.processes;
        acknowledged += outcome.acknowledged;
        refused += outcome.refused;
        virtual_hours += std::chrono::duration<double, std::ratio<3600>>(outcome.length).count();
        failed += outcome.violations.empty() ? 0 : 1;
    }
};

void report(const Scenario& scenario, const Workload& workload, const Outcome& outcome) {
    fmt::print("{}  {}\n", scenario.describe(), workload.describe());
    for (const std::string& violation : outcome.violations)
        fmt::print("  VIOLATED: {}\n", violation);
    fmt::print("  replay: simulation --first {} --seeds 1 --trace\n", scenario.seed);
    std::fflush(stdout);
}

Outcome simulate(std::uint32_t seed, const Options& options, Reference& reference) {
    const Scenario scenario = Scenario::drawn(seed);
    const Workload workload = make_workload(scenario.workload, scenario.lenient);
    Federation::Trace trace;
    if (options.trace) {
        fmt::print("{}  {}\n", scenario.describe(), workload.describe());
        trace = [](const std::string& line) { fmt::print("{}\n", line); };
    }
    Outcome outcome = Federation(workload, scenario, options.scratch / "faulty", trace).run();
    if (outcome.violations.empty())
        outcome.violations = reference.differences(workload, scenario, outcome);
    if (!outcome.violations.empty())
        report(scenario, workload, outcome);
    return outcome;
}

int run(const Options& options) {
    const auto start = std::chrono::steady_clock::now();
    const auto minutes = [&] {
        return std::chrono::duration<double, std::ratio<60>>(std::chrono::steady_clock::now() - start).count();
    };
    Reference reference(options.scratch / "calm");
    Totals totals;
    for (std::uint32_t i = 0; i < options.seeds && (options.minutes <= 0 || minutes() < options.minutes); ++i) {
        totals.add(simulate(options.first + i, options, reference));
        if (totals.failed > 0 && !options.keep_going)
            break;
    }
    fmt::print(
        "{} federations, {} rounds ({} abandoned), {} aggregator processes, {} updates acknowledged, {} refused, "
        "{:.1f} virtual hours: {} broke a promise\n{} fault-free ones to compare with; {:.0f} federations a "
        "minute\n",
        totals.federations, totals.rounds, totals.abandoned, totals.processes, totals.acknowledged, totals.refused,
        totals.virtual_hours, totals.failed, reference.runs(), totals.federations / minutes());
    return totals.failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    options.scratch = std::filesystem::temp_directory_path() / fmt::format("dither-simulation-{}", ::getpid());
    CLI::App app{
        "Simulated federations with faults, one for each seed: nothing acknowledged is lost, nothing is counted "
        "twice, every model is that of a fault-free run, and the run ends once the faults do."};
    app.add_option("--first,--seed", options.first, "the first seed")->capture_default_str();
    app.add_option("--seeds", options.seeds, "how many, one after the other")->capture_default_str();
    app.add_option("--minutes", options.minutes, "begin no other one after so long; 0: no limit")
        ->capture_default_str();
    app.add_flag("--trace", options.trace, "print everything that happens");
    app.add_flag("--keep-going", options.keep_going, "go on after a violation");
    app.add_option("--scratch", options.scratch, "a folder for what nodes keep")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        const int status = run(options);
        std::filesystem::remove_all(options.scratch);
        return status;
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
