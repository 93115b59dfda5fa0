// What both drivers of a target do with its seeds.
#pragma once

#include "tests/fuzz/target.hpp"

#include <filesystem>
#include <string>

namespace dither::fuzz {

/// Writes them into `folder`, seed-0 and on.
inline void write_seeds(const std::filesystem::path& folder) {
    std::filesystem::create_directories(folder);
    int number = 0;
    for (const Bytes& seed : seeds())
        write_bytes(folder / ("seed-" + std::to_string(number++)), seed);
}

}  // namespace dither::fuzz
