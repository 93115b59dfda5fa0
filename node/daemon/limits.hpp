// What a node may take of the machine that it is a guest on.
#pragma once

#include <cstdint>

namespace dither {

struct ResourceLimits {
    unsigned processors = 0;   ///< that its threads may run on at a time; 0: all
    std::uint64_t memory = 0;  ///< bytes of data (RLIMIT_DATA): a task that needs more fails, the node lives; 0: any
    int niceness = 0;          ///< 0..19

    bool operator==(const ResourceLimits&) const = default;
};

/// For this process and its threads to come. Throws IoError if the system does not grant it.
void apply(const ResourceLimits& limits);

}  // namespace dither
