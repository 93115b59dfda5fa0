#include "examples/study/metric_path.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>

#include "core/error.hpp"
#include "core/words.hpp"

namespace dither {
namespace {

using nlohmann::json;

constexpr std::string_view kForms =
    "summary.KEY, round[N].KEY, rounds.last(N).KEY, rounds.mean.KEY (or min, max, sum) or evaluate.NAME.KEY";

[[noreturn]] void fail(std::string_view text) {
    throw InputError(fmt::format("expected {}, found \"{}\"", kForms, text));
}

/// Takes "NAME." off the front of `rest`.
std::string take_name(std::string_view& rest, std::string_view whole) {
    const std::size_t dot = rest.find('.');
    if (dot == 0 || dot == std::string_view::npos)
        fail(whole);
    const std::string name(rest.substr(0, dot));
    rest.remove_prefix(dot + 1);
    return name;
}

/// The number of "prefix(12)" or "prefix[-1]".
std::optional<std::int64_t> number_within(std::string_view text, std::string_view prefix, char close) {
    std::int64_t number = 0;
    if (!text.starts_with(prefix) || !text.ends_with(close))
        return std::nullopt;
    const char* const end = text.data() + text.size() - 1;
    const auto [read, error] = std::from_chars(text.data() + prefix.size(), end, number);
    return error == std::errc{} && read == end ? std::optional(number) : std::nullopt;
}

void parse_reduction(MetricPath& path, const std::string& name) {
    constexpr std::array kNames{"mean", "min", "max", "sum"};
    constexpr std::array kReductions{Reduction::mean, Reduction::min, Reduction::max, Reduction::sum};
    const auto found = std::ranges::find(kNames, name);
    const auto count = number_within(name, "last(", ')');
    if (found == kNames.end() && count.value_or(0) < 1)
        fail(path.text);
    path.reduction =
        count ? Reduction::last : kReductions[static_cast<std::size_t>(std::distance(kNames.begin(), found))];
    path.count = static_cast<std::size_t>(count.value_or(0));
}

/// The key of `object` that is nearest to the one that it lacks.
std::string nearest_key(const json& object, const JsonStep& step) {
    std::vector<std::string> keys;
    if (object.is_object() && std::holds_alternative<std::string>(step))
        for (const auto& [key, value] : object.items())
            keys.push_back(key);
    return keys.empty() ? "" : "; the nearest key is " + nearest(std::get<std::string>(step), keys);
}

[[noreturn]] void fail_missing(const MetricPath& path, const json& from) {
    const json* here = &from;
    for (const JsonStep& step : path.steps) {
        const json* const next = follow(*here, {step});
        if (next == nullptr)
            throw FormatError(fmt::format("{}: there is no such value{}", path.text, nearest_key(*here, step)));
        here = next;
    }
    throw FormatError(fmt::format("{}: expected a number, found {}", path.text, here->type_name()));
}

std::optional<double> number_or_null(const MetricPath& path, const json& from) {
    const json* const found = follow(from, path.steps);
    if (found == nullptr || !(found->is_number() || found->is_null()))
        fail_missing(path, from);
    return found->is_null() ? std::nullopt : std::optional(found->get<double>());
}

/// Null if there is no such round.
const json* find_round(const MetricPath& path, const CellRecord& cell) {
    if (path.round < 0)
        return -path.round <= static_cast<std::int64_t>(cell.rounds.size())
                   ? &cell.rounds[cell.rounds.size() - static_cast<std::size_t>(-path.round)]
                   : nullptr;
    const auto found = std::ranges::find_if(
        cell.rounds, [&](const json& round) { return round.value("round", std::int64_t{0}) == path.round; });
    return found == cell.rounds.end() ? nullptr : &*found;
}

const json& round_of(const MetricPath& path, const CellRecord& cell) {
    if (const json* round = find_round(path, cell))
        return *round;
    throw FormatError(fmt::format("{}: there is no such round among {}", path.text, cell.rounds.size()));
}

/// Where the path of one value begins. Null if that is a round that there is not, or all rounds.
const json* object_of(const MetricPath& path, const CellRecord& cell) {
    switch (path.source) {
        case MetricSource::round:
            return find_round(path, cell);
        case MetricSource::evaluate:
            return &cell.evaluations.at(path.evaluation);
        case MetricSource::summary:
            return &cell.summary;
        default:
            return nullptr;
    }
}

double reduce(const MetricPath& path, std::vector<double> values) {
    if (path.reduction == Reduction::last && values.size() > path.count)
        values.erase(values.begin(), values.end() - static_cast<std::ptrdiff_t>(path.count));
    const double sum = std::accumulate(values.begin(), values.end(), 0.0);
    switch (path.reduction) {
        case Reduction::min:
            return *std::ranges::min_element(values);
        case Reduction::max:
            return *std::ranges::max_element(values);
        case Reduction::sum:
            return sum;
        default:
            return sum / static_cast<double>(values.size());
    }
}

std::optional<double> over_rounds(const MetricPath& path, const CellRecord& cell) {
    std::vector<double> values;
    bool known = false;  // some keys are only in the rounds that are evaluated
    for (const json& round : cell.rounds) {
        const json* const found = follow(round, path.steps);
        known = known || (found != nullptr && (found->is_number() || found->is_null()));
        if (found != nullptr && found->is_number())
            values.push_back(found->get<double>());
    }
    if (!known)
        fail_missing(path, cell.rounds.empty() ? json::object() : cell.rounds.back());
    return values.empty() ? std::nullopt : std::optional(reduce(path, std::move(values)));
}

}  // namespace

std::vector<JsonStep> parse_json_steps(std::string_view text) {
    std::vector<JsonStep> steps;
    std::string_view rest = text;
    while (!rest.empty()) {
        const bool is_index = rest.front() == '[';
        const std::size_t length = is_index ? std::min(rest.find(']'), rest.size() - 1) + 1 : rest.find_first_of(".[");
        const std::string_view step = rest.substr(0, length);
        const auto index = number_within(step, "[", ']');
        if (step.empty() || (is_index && !index))
            fail(text);
        steps.push_back(index ? JsonStep(*index) : JsonStep(std::string(step)));
        rest.remove_prefix(step.size());
        const bool goes_on = rest.starts_with('.') && rest.size() > 1 && rest[1] != '[';
        if (!rest.empty() && rest.front() != '[' && !goes_on)
            fail(text);
        if (rest.starts_with('.'))
            rest.remove_prefix(1);
    }
    if (steps.empty())
        fail(text);
    return steps;
}

MetricPath parse_metric_path(std::string_view text) {
    MetricPath path{.text = std::string(text)};
    std::string_view rest = text;
    const std::string head = take_name(rest, text);
    if (head == "summary") {
        path.source = MetricSource::summary;
    } else if (head == "rounds") {
        path.source = MetricSource::rounds;
        parse_reduction(path, take_name(rest, text));
    } else if (head == "evaluate") {
        path.source = MetricSource::evaluate;
        path.evaluation = take_name(rest, text);
    } else if (const auto round = number_within(head, "round[", ']'); round && *round != 0) {
        path.source = MetricSource::round;
        path.round = *round;
    } else {
        fail(text);
    }
    path.steps = parse_json_steps(rest);
    return path;
}

const json* follow(const json& from, const std::vector<JsonStep>& steps) {
    const json* here = &from;
    for (const JsonStep& step : steps) {
        if (const auto* key = std::get_if<std::string>(&step)) {
            const auto found = here->is_object() ? here->find(*key) : here->end();
            if (!here->is_object() || found == here->end())
                return nullptr;
            here = &*found;
            continue;
        }
        const auto size = static_cast<std::int64_t>(here->is_array() ? here->size() : 0);
        const std::int64_t index = std::get<std::int64_t>(step);
        if (index >= size || index < -size)
            return nullptr;
        here = &(*here)[static_cast<std::size_t>(index < 0 ? size + index : index)];
    }
    return here;
}

std::optional<double> number_at(const json& from, const std::vector<JsonStep>& steps) {
    const json* const found = follow(from, steps);
    return found != nullptr && found->is_number() ? std::optional(found->get<double>()) : std::nullopt;
}

const json* find_value(const MetricPath& path, const CellRecord& cell) {
    const json* const from = object_of(path, cell);
    return from == nullptr ? nullptr : follow(*from, path.steps);
}

void check_path(const MetricPath& path, const CellRecord& cell) {
    if (path.source == MetricSource::rounds) {
        over_rounds(path, cell);
        return;
    }
    const json* const from = object_of(path, cell);
    if (from != nullptr && follow(*from, path.steps) == nullptr)
        fail_missing(path, *from);
}

std::optional<double> value_of(const MetricPath& path, const CellRecord& cell) {
    switch (path.source) {
        case MetricSource::round:
            return number_or_null(path, round_of(path, cell));
        case MetricSource::rounds:
            return over_rounds(path, cell);
        case MetricSource::evaluate:
            return number_or_null(path, cell.evaluations.at(path.evaluation));
        default:
            return number_or_null(path, cell.summary);
    }
}

}  // namespace dither
