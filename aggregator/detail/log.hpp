// What operators should know, formatted only where somebody listens. Private to the aggregator.
#pragma once

#include "aggregator/server.hpp"

#include <utility>

#include <fmt/format.h>

namespace dither {

template <typename... Args>
void log(const ServerSetup& setup, fmt::format_string<Args...> line, Args&&... args) {
    if (setup.log)
        setup.log(fmt::format(line, std::forward<Args>(args)...));
}

}  // namespace dither
