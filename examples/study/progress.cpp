#include "examples/study/progress.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace dither {
namespace {

std::string time_left(double seconds) {
    if (seconds < 100)
        return fmt::format("{:.0f} s", seconds);
    return seconds < 6000 ? fmt::format("{:.0f} min", seconds / 60) : fmt::format("{:.1f} h", seconds / 3600);
}

}  // namespace

std::string progress_text(const StudyProgress& progress) {
    std::string text = fmt::format("{} of {} cells", progress.done, progress.cells);
    if (progress.running > 0)
        text += fmt::format(", {} running", progress.running);
    if (progress.failed > 0)
        text += fmt::format(", {} failed", progress.failed);
    if (progress.seconds_left > 0)
        text += fmt::format(", {} left", time_left(progress.seconds_left));
    return text;
}

StudyProgressDisplay::~StudyProgressDisplay() {
    if (width_ > 0)
        std::fputc('\n', stderr);
}

void StudyProgressDisplay::show(const StudyProgress& progress) {
    const std::string text = "dither-study: " + progress_text(progress);
    if (terminal_) {
        fmt::print(stderr, "\r{:<{}}", text, width_);
        width_ = std::max(width_, text.size());
    } else if (progress.done + progress.failed > shown_) {
        shown_ = progress.done + progress.failed;
        fmt::print(stderr, "{}\n", text);
    }
}

}  // namespace dither
