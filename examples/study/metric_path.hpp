// Where a metric's value is found among the files that a cell leaves.
//
//     summary.final_accuracy                 of the run's summary.json
//     round[1000].train_loss                 of that round in rounds.jsonl; round[-1] is the last one
//     rounds.last(5).test_accuracy           the mean over the last five rounds that have the value;
//                                            also rounds.mean, rounds.min, rounds.max and rounds.sum
//     evaluate.int4.quantized.accuracy       of what dither-evaluate said, under the name of an [[evaluate]]
//     evaluate.int4.layers[0].bytes          lists count from 0; [-1] is the last
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace dither {

/// What a finished cell left.
struct CellRecord {
    nlohmann::json summary;
    std::vector<nlohmann::json> rounds;
    std::map<std::string, nlohmann::json> evaluations;
};

enum class MetricSource { summary, round, rounds, evaluate };
enum class Reduction { last, mean, min, max, sum };

using JsonStep = std::variant<std::string, std::int64_t>;  ///< a key, or an index; negative ones count from the end

struct MetricPath {
    std::string text;
    MetricSource source = MetricSource::summary;
    std::int64_t round = 0;                 ///< of MetricSource::round
    Reduction reduction = Reduction::mean;  ///< of MetricSource::rounds
    std::size_t count = 0;                  ///< of Reduction::last
    std::string evaluation;                 ///< of MetricSource::evaluate
    std::vector<JsonStep> steps;
};

/// Throws InputError that says what was expected, without a place.
MetricPath parse_metric_path(std::string_view text);
/// The steps of "layers[0].bits.forward". Throws InputError.
std::vector<JsonStep> parse_json_steps(std::string_view text);

/// The value; nothing where it is null: a run that has none, such as the accuracy of a regression. Throws FormatError
/// that names the nearest key where there is no such value at all.
std::optional<double> value_of(const MetricPath& path, const CellRecord& cell);
/// What the path leads to, whatever it is; null if there is no such thing. For paths to one value, not over the rounds.
const nlohmann::json* find_value(const MetricPath& path, const CellRecord& cell);
/// Throws FormatError that names the nearest key where the path leads to nothing. A round that a run does not have is
/// no fault of the path.
void check_path(const MetricPath& path, const CellRecord& cell);
/// What the steps lead to; null if there is no such thing.
const nlohmann::json* follow(const nlohmann::json& from, const std::vector<JsonStep>& steps);
/// The number there; nothing if there is none.
std::optional<double> number_at(const nlohmann::json& from, const std::vector<JsonStep>& steps);

}  // namespace dither
