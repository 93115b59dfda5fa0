#include "core/version.hpp"

#include <fstream>

namespace dither {

std::string_view version() {
    return DITHER_VERSION;
}

std::string cpu_name() {
    constexpr std::string_view kKey = "model name";
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
        const std::size_t colon = line.find(": ");
        if (line.starts_with(kKey) && colon != std::string::npos)
            return line.substr(colon + 2);
    }
    return "unknown";
}

}  // namespace dither
