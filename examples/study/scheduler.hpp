// Runs the cells of a study beside each other, each as a process of its own: what one of them does harms no other.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "examples/study/cells.hpp"
#include "examples/study/child_process.hpp"

namespace dither {

struct SchedulerOptions {
    std::vector<std::string> simulate;            ///< the program, and what goes before it: mpirun -n 5 ...
    std::vector<std::string> simulate_arguments;  ///< after those of the cell: --workers 1
    std::string evaluate;
    unsigned jobs = 1;                     ///< cells at a time
    bool resume = false;                   ///< interrupted runs go on from their checkpoints; else they start anew
    bool retry = false;                    ///< cells that failed run again
    std::chrono::seconds cell_timeout{0};  ///< a cell that takes longer fails; 0: none does
};

struct StudyProgress {
    std::size_t cells = 0;
    std::size_t done = 0;
    std::size_t failed = 0;
    std::size_t running = 0;
    std::size_t ran = 0;      ///< of done and failed, those of this call
    double seconds_left = 0;  ///< by the mean time of those; 0 before there is any
};
using StudyProgressCallback = std::function<void(const StudyProgress&)>;

struct SchedulerOutcome {
    StudyProgress progress;
    int signal = 0;  ///< that stopped it; 0: all cells are done or failed
};

/// Runs the steps of each cell that have no result yet. A step that fails is recorded in the cell's folder, and the
/// rest of that cell is left out. SIGINT and SIGTERM end the children, with time for a last checkpoint, and the call;
/// a second one kills them. Throws IoError.
class Scheduler {
public:
    Scheduler(std::vector<Cell> cells, std::vector<CellFolder> folders, SchedulerOptions options);

    SchedulerOutcome run(const StudyProgressCallback& report);

private:
    using Clock = std::chrono::steady_clock;
    struct Running {
        std::size_t cell;
        std::size_t step;
        ChildProcess process;
        Clock::time_point since;  ///< of the cell
        bool overdue = false;
    };

    void sort_out();
    void fill();
    /// Starts the cell's first step that has no result; false if there is none.
    bool start_next(std::size_t cell, Clock::time_point since);
    Command command_for(std::size_t cell, const CellStep& step) const;
    void prepare_run(const CellFolder& folder, Command& command) const;
    void reap();
    /// What the ended process leaves: a result, a failure, or nothing if it was stopped.
    void settle(Running& running, const Ending& ending);
    void fail(const Running& running, const std::string& how);
    /// A cell that is `ended` now, done or failed, and its time.
    void count(const Running& running, std::size_t& ended);
    void stop(int signal);
    /// Kills what has taken too long.
    void end_overdue();
    StudyProgress progress() const;

    std::vector<Cell> cells_;
    std::vector<CellFolder> folders_;
    SchedulerOptions options_;
    std::deque<std::size_t> waiting_;
    std::vector<Running> running_;
    StudyProgress progress_;
    double spent_seconds_ = 0;  ///< of the cells that ran
    int stopped_by_ = 0;
    Clock::time_point deadline_;  ///< of a stop
};

}  // namespace dither
