#include "examples/study/verify.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.hpp"
#include "core/rng.hpp"
#include "core/words.hpp"
#include "examples/study/results.hpp"

namespace dither {
namespace {

std::vector<Cell> finished_cells(const StudyFolder& folder, const Study& study, const StudyPlan& plan) {
    std::vector<Cell> cells;
    for (const Cell& cell : plan.cells)
        if (folder.cell(cell.hash, study).state() == CellState::done)
            cells.push_back(cell);
    if (cells.empty())
        throw InputError(fmt::format("{} has no finished cell", folder.path().string()));
    return cells;
}

Cell choose_cell(const std::vector<Cell>& cells, const std::string& name, std::uint32_t seed) {
    if (name.empty())
        return cells[Stream({.seed = seed, .purpose = Purpose::evaluation})
                         .below(static_cast<std::uint32_t>(cells.size()))];
    const auto found = std::ranges::find_if(cells, [&](const Cell& cell) { return cell.hash.starts_with(name); });
    if (found != cells.end())
        return *found;
    std::vector<std::string> known;
    for (const Cell& cell : cells)
        known.push_back(cell.hash);
    throw InputError(
        fmt::format("--cell {}: no finished cell's hash begins so; the nearest is {}", name, nearest(name, known)));
}

std::string shown(const std::optional<double>& value) {
    return value ? fmt::format("{}", *value) : "nothing";
}

void compare_records(const Study& study, const CellRecord& before, const CellRecord& now, Verification& result) {
    const std::string model = before.summary.value("model_sha256", "");
    if (const std::string other = now.summary.value("model_sha256", ""); other != model)
        result.differences.push_back(fmt::format("model_sha256: {}, now {}", model, other));
    for (const Metric& metric : study.metrics) {
        if (metric.timed)
            continue;
        ++result.compared;
        const auto was = measure(metric, before);
        if (const auto is = measure(metric, now); is != was)
            result.differences.push_back(fmt::format("{}: {}, now {}", metric.name, shown(was), shown(is)));
    }
}

}  // namespace

Verification verify_cell(const StudyFolder& folder, const std::string& name, std::uint32_t seed,
                         const SchedulerOptions& options) {
    const Study study = parse_study(folder.text());
    const StudyPlan plan = plan_cells(study, folder.text());
    const Cell cell = choose_cell(finished_cells(folder, study, plan), name, seed);
    const CellFolder again(folder.path() / "verify" / cell.hash, study);
    std::filesystem::remove_all(again.path());
    Verification result{.cell = cell.hash};
    result.signal = Scheduler({cell}, {again}, options).run([](const StudyProgress&) {}).signal;
    if (result.signal != 0)
        return result;
    if (again.state() == CellState::failed) {
        result.differences.push_back(again.failure_text());
        return result;
    }
    const bool rounds = needs_rounds(study);
    compare_records(study, folder.cell(cell.hash, study).read(rounds), again.read(rounds), result);
    return result;
}

}  // namespace dither
