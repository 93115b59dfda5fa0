// How far a study is, on standard error.
#pragma once

#include "examples/study/scheduler.hpp"

namespace dither {

/// "12 of 40 cells, 2 running, 1 failed, 3 min left"
std::string progress_text(const StudyProgress& progress);

/// One line that is written over on a terminal; elsewhere a line whenever a cell ends.
class StudyProgressDisplay {
public:
    explicit StudyProgressDisplay(bool terminal) : terminal_(terminal) {}
    ~StudyProgressDisplay();
    StudyProgressDisplay(const StudyProgressDisplay&) = delete;
    StudyProgressDisplay& operator=(const StudyProgressDisplay&) = delete;

    void show(const StudyProgress& progress);

private:
    bool terminal_;
    std::size_t shown_ = 0;  ///< cells that had ended then
    std::size_t width_ = 0;  ///< of the line on the terminal
};

}  // namespace dither
