// Runs a finished cell again and compares.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "examples/study/scheduler.hpp"
#include "examples/study/study_folder.hpp"

namespace dither {

struct Verification {
    std::string cell;
    std::vector<std::string> differences;  ///< as sentences; empty: the same model and metrics
    std::size_t compared = 0;              ///< metrics; those that are measured in time are not
    int signal = 0;                        ///< that stopped it, with nothing compared
};

/// The cell whose hash begins with `name`, or one drawn by `seed` if that is empty, in DIR/verify/HASH, which is made
/// anew. Throws InputError if there is no such cell or none is finished, and IoError.
Verification verify_cell(const StudyFolder& folder, const std::string& name, std::uint32_t seed,
                         const SchedulerOptions& options);

}  // namespace dither
