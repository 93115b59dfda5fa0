// Everything that dither-evaluate does with a file.
#pragma once

#include "examples/evaluate/options.hpp"
#include "examples/evaluate/report.hpp"

namespace dither {

/// Evaluates the checkpoint or converted model `options.model`, and writes `options.convert`, if asked for. Throws
/// InputError where an option, the file or the data are not what they must be, FormatError where an integer network has
/// no room for `options.batch`, IoError where the file cannot be written and TrainingError on a loss that is not
/// finite.
Report evaluate_file(const EvaluateOptions& options);

}  // namespace dither
