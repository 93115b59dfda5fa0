#include "examples/study/scheduler.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iterator>
#include <utility>

#include "core/durable_file.hpp"
#include "core/error.hpp"

namespace dither {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::chrono::seconds kPatience{60};  ///< until children that were asked to stop are killed
constexpr std::size_t kLastLines = 5;

std::string read_text(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> last_lines(const fs::path& file) {
    std::ifstream in(file);
    std::deque<std::string> lines;
    for (std::string line; std::getline(in, line);) {
        lines.push_back(std::move(line));
        if (lines.size() > kLastLines)
            lines.pop_front();
    }
    return {std::make_move_iterator(lines.begin()), std::make_move_iterator(lines.end())};
}

std::string text_of(const json& object) {
    return object.dump(1, ' ', false, json::error_handler_t::replace) + '\n';
}

const char* program_of(const CellStep& step) {
    return step.evaluates ? "dither-evaluate" : "dither-simulate";
}

}  // namespace

Scheduler::Scheduler(std::vector<Cell> cells, std::vector<CellFolder> folders, SchedulerOptions options)
    : cells_(std::move(cells)), folders_(std::move(folders)), options_(std::move(options)) {
    require(cells_.size() == folders_.size(), "{} cells and {} folders", cells_.size(), folders_.size());
}

SchedulerOutcome Scheduler::run(const StudyProgressCallback& report) {
    SignalQueue signals;
    sort_out();
    for (fill(), report(progress()); !running_.empty(); report(progress())) {
        const int signal = signals.next();
        if (signal == SIGINT || signal == SIGTERM)
            stop(signal);
        if (stopped_by_ != 0 && Clock::now() > deadline_)
            stop(stopped_by_);
        end_overdue();
        reap();
        fill();
    }
    return {progress(), stopped_by_};
}

void Scheduler::sort_out() {
    for (std::size_t i = 0; i < cells_.size(); ++i) {
        if (options_.retry)
            folders_[i].forget_failures();
        const CellState state = folders_[i].state();
        progress_.done += state == CellState::done ? 1 : 0;
        progress_.failed += state == CellState::failed ? 1 : 0;
        if (state == CellState::fresh || state == CellState::interrupted)
            waiting_.push_back(i);
    }
}

void Scheduler::fill() {
    while (running_.size() < options_.jobs && !waiting_.empty() && stopped_by_ == 0) {
        const std::size_t cell = waiting_.front();
        waiting_.pop_front();
        start_next(cell, Clock::now());
    }
}

bool Scheduler::start_next(std::size_t cell, Clock::time_point since) {
    const CellFolder& folder = folders_[cell];
    const auto& steps = folder.steps();
    const auto next = std::ranges::find_if(steps, [&](const CellStep& s) { return !fs::exists(folder.result(s)); });
    if (next == steps.end())
        return false;
    fs::create_directories(folder.path());
    const auto step = static_cast<std::size_t>(next - steps.begin());
    running_.push_back({cell, step, ChildProcess(command_for(cell, *next)), since});
    return true;
}

Command Scheduler::command_for(std::size_t cell, const CellStep& step) const {
    const CellFolder& folder = folders_[cell];
    Command command{.arguments = options_.simulate, .output = folder.output(step), .errors = folder.log(step)};
    if (step.evaluates)
        command.arguments = {options_.evaluate};
    const auto arguments = step.evaluates ? fill_in(step.arguments, cells_[cell].job) : step.arguments;
    command.arguments.insert(command.arguments.end(), arguments.begin(), arguments.end());
    if (!step.evaluates) {
        const auto& more = options_.simulate_arguments;
        command.arguments.insert(command.arguments.end(), more.begin(), more.end());
        write_durably(folder.path() / "job.toml", cells_[cell].job);
        prepare_run(folder, command);
    }
    return command;
}

void Scheduler::prepare_run(const CellFolder& folder, Command& command) const {
    if (options_.resume && fs::exists(folder.run() / "model.dither"))
        command.arguments.emplace_back("--resume");
    else
        fs::remove_all(folder.run());
}

void Scheduler::reap() {
    std::vector<Running> ended;
    for (auto it = running_.begin(); it != running_.end();) {
        if (it->process.ending()) {
            ended.push_back(std::move(*it));
            it = running_.erase(it);
        } else {
            ++it;
        }
    }
    for (Running& running : ended)
        settle(running, *running.process.ending());
}

void Scheduler::settle(Running& running, const Ending& ending) {
    const CellFolder& folder = folders_[running.cell];
    const CellStep& step = folder.steps()[running.step];
    if (!ending.good()) {
        if (running.overdue)
            fail(running, fmt::format("took longer than {} s", options_.cell_timeout.count()));
        else if (stopped_by_ == 0)
            fail(running, ending.text());
        return;
    }
    try {
        const fs::path output = folder.output(step);
        read_json(step.evaluates ? output : folder.run() / "summary.json");
        write_durably(folder.result(step),
                      step.evaluates ? read_text(output) : text_of({{"arguments", step.arguments}}));
    } catch (const FormatError& error) {
        fail(running, fmt::format("ended with 0 and no result: {}", error.what()));
        return;
    }
    if (stopped_by_ == 0 && start_next(running.cell, running.since))
        return;
    if (folder.state() == CellState::done)
        count(running, progress_.done);
}

void Scheduler::fail(const Running& running, const std::string& how) {
    const CellFolder& folder = folders_[running.cell];
    const CellStep& step = folder.steps()[running.step];
    write_durably(folder.failure(step),
                  text_of({{"program", program_of(step)}, {"ending", how}, {"stderr", last_lines(folder.log(step))}}));
    count(running, progress_.failed);
}

void Scheduler::end_overdue() {
    if (options_.cell_timeout.count() == 0)
        return;
    for (Running& running : running_)
        if (!running.overdue && Clock::now() - running.since > options_.cell_timeout) {
            running.overdue = true;
            running.process.signal(SIGKILL);
        }
}

void Scheduler::count(const Running& running, std::size_t& ended) {
    ++ended;
    ++progress_.ran;
    spent_seconds_ += std::chrono::duration<double>(Clock::now() - running.since).count();
}

void Scheduler::stop(int signal) {
    const bool again = stopped_by_ != 0;
    stopped_by_ = signal;
    deadline_ = Clock::now() + kPatience;
    for (Running& running : running_)
        running.process.signal(again ? SIGKILL : SIGTERM);
}

StudyProgress Scheduler::progress() const {
    StudyProgress now = progress_;
    now.cells = cells_.size();
    now.running = running_.size();
    if (now.ran > 0)
        now.seconds_left = spent_seconds_ / static_cast<double>(now.ran) *
                           static_cast<double>(now.cells - now.done - now.failed) / options_.jobs;
    return now;
}

}  // namespace dither
