// Who can make a program log can fill its disk: so many lines a minute, and then how many were left out.
#pragma once

#include "transport/hub.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <functional>
#include <string>
#include <utility>

namespace dither::detail {

/// Not thread-safe.
class LogGate {
public:
    static constexpr std::size_t kLinesAMinute = 120;

    explicit LogGate(std::function<void(const std::string&)> log) : log_(std::move(log)) {}

    void line(const std::string& text, Clock::time_point now = Clock::now()) {
        if (!log_)
            return;
        if (now - began_ >= std::chrono::minutes(1))
            begin(now);
        if (lines_++ < kLinesAMinute)
            log_(text);
    }

private:
    void begin(Clock::time_point now) {
        if (lines_ > kLinesAMinute)
            log_(fmt::format("{} more lines like these were not logged", lines_ - kLinesAMinute));
        began_ = now;
        lines_ = 0;
    }

    std::function<void(const std::string&)> log_;
    Clock::time_point began_;
    std::size_t lines_ = 0;
};

}  // namespace dither::detail
