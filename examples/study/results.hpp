// What the cells of a study gave, row by row.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "examples/study/cells.hpp"
#include "examples/study/study_folder.hpp"

namespace dither {

enum class RowState { done, failed, missing };

/// A row and its values. A pure function of the cells' files.
struct Result {
    Row row;
    RowState state = RowState::missing;
    std::string failure;  ///< of a failed one, on one line
    double seconds = 0;   ///< that training took, by the run's own account
    std::string model;    ///< SHA-256
    std::string cpu;
    std::vector<std::optional<double>> values;  ///< one a metric of the study; all absent unless done
};

/// scale * (from + plus - minus) / over; nothing where a part is null or the result not finite. Throws FormatError.
std::optional<double> measure(const Metric& metric, const CellRecord& cell);

/// A result for each row of the plan, in its order. A cell whose files do not have a metric counts as failed.
std::vector<Result> collect_results(const Study& study, const StudyPlan& plan, const StudyFolder& folder);
/// Whether a metric needs rounds.jsonl.
bool needs_rounds(const Study& study);

/// One JSON object a row, and the same as a table: method, the grid's keys, seed, metrics, hash, seconds, failed.
std::string to_jsonl(const Study& study, const std::vector<Result>& results);
std::string to_csv(const Study& study, const std::vector<Result>& results);

}  // namespace dither
