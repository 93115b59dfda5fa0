// What a node tells its log about a session.
#pragma once

#include "transport/messages.hpp"

#include <functional>

namespace spdlog {
class logger;
}

namespace dither {

/// For SessionSetup::watch. Borrows the logger.
std::function<void(const Message& heard, const Message* answer)> narrate(spdlog::logger& log);

}  // namespace dither
