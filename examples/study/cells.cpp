#include "examples/study/cells.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <utility>

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/sha256.hpp"
#include "core/version.hpp"
#include "examples/study/strict_table.hpp"

namespace dither {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::size_t kHashDigits = 16;
constexpr std::size_t kShortHashDigits = 8;

std::string short_hash(std::string_view text, std::size_t digits) {
    return to_hex(sha256(text)).substr(0, digits);
}

/// What sets a cell's keys, in order.
std::vector<Setting> settings_of(const Study& study, const Row& row, const StudyText& text) {
    std::vector<Setting> settings = study.settings;
    const auto append = [&](const std::vector<Setting>& more) {
        settings.insert(settings.end(), more.begin(), more.end());
    };
    append(study.methods[row.method].settings);
    for (const GridValue& value : study.grid_point(row.point))
        append(value.settings);
    append(study.profile);
    for (const std::string& override : text.overrides) {
        const std::size_t equals = std::min(override.find('='), override.size());
        settings.push_back({override.substr(0, equals), override.substr(std::min(equals + 1, override.size())), ""});
    }
    settings.push_back({"job.seed", fmt::format("{}", row.seed), ""});
    return settings;
}

/// What one of the settings is to blame for is said of its place; `error` is about several keys otherwise.
void blame_setting(const std::vector<Setting>& settings, const InputError& error) {
    const std::string message = error.what();
    for (const Setting& setting : settings) {
        const std::string begin = "--set " + setting.text();
        if (message.starts_with(begin + ':'))
            throw InputError(setting.where.empty() ? message : setting.where + message.substr(begin.size()));
    }
}

Job resolve(const StudyText& text, const std::vector<Setting>& settings) {
    std::vector<std::string> overrides;
    for (const Setting& setting : settings)
        overrides.push_back(setting.text());
    Job job = parse_job(text.job, text.job_file, overrides);
    job.output = {.dir = "run", .pictures = false};  // where results go decides none
    return job;
}

/// Throws InputError where an evaluation asks for a key that no job has.
void check_arguments(const Study& study, const std::string& job) {
    for (const Evaluation& evaluation : study.evaluations) {
        try {
            fill_in(evaluation.arguments, job);
        } catch (const InputError& error) {
            throw InputError(fmt::format("[[evaluate]] \"{}\": {}", evaluation.name, error.what()));
        }
    }
}

/// Gives the row its cell or its problem; a cell that is new.
std::optional<Cell> assign_cell(const Study& study, const StudyText& text, Row& row) {
    const std::vector<Setting> settings = settings_of(study, row, text);
    try {
        std::string job = to_toml(resolve(text, settings));
        row.cell = short_hash(fmt::format("{}\n{}", version(), job), kHashDigits);
        return Cell{row.cell, std::move(job)};
    } catch (const InputError& error) {
        blame_setting(settings, error);
        row.problem = error.what();
        return std::nullopt;
    }
}

/// The value at "section.key" of a job. Throws InputError where there is none.
std::string value_in(const toml::table& job, std::string_view key) {
    const toml::node_view<const toml::node> found = job.at_path(key);
    if (!found || found.is_table() || found.is_array())
        throw InputError(fmt::format("there is no key {} with a number or a text in the job", key));
    return found.is_string() ? found.as_string()->get() : to_inline_toml(*found.node());
}

std::vector<json> read_lines(const fs::path& file) {
    std::ifstream in(file);
    std::vector<json> lines;
    for (std::string line; std::getline(in, line);) {
        lines.push_back(json::parse(line, nullptr, false));
        if (!lines.back().is_object())
            throw FormatError(fmt::format("{}:{}: not a JSON object", file.string(), lines.size()));
    }
    return lines;
}

}  // namespace

json read_json(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    json object = json::parse(std::string(std::istreambuf_iterator<char>(in), {}), nullptr, false);
    if (!object.is_object())
        throw FormatError(fmt::format("{}: {}", file.string(), in ? "not a JSON object" : "cannot be read"));
    return object;
}

std::vector<std::string> fill_in(std::vector<std::string> arguments, const std::string& job) {
    static const std::regex kPlace(R"(\{([a-z0-9_.]+)\})");
    const toml::table table = toml::parse(job);
    for (std::string& argument : arguments) {
        std::string filled;  // values are not searched again
        auto rest = argument.cbegin();
        for (std::sregex_iterator found(argument.cbegin(), argument.cend(), kPlace), end; found != end; ++found) {
            filled.append(rest, (*found)[0].first).append(value_in(table, (*found)[1].str()));
            rest = (*found)[0].second;
        }
        argument = filled.append(rest, argument.cend());
    }
    return arguments;
}

StudyPlan plan_cells(const Study& study, const StudyText& text) {
    check_arguments(study, to_toml(parse_job(text.job, text.job_file)));  // the job's own faults are no method's
    StudyPlan plan;
    std::vector<std::pair<std::size_t, Cell>> found;  // with the seed's place
    std::set<std::string> hashes;
    for (std::size_t method = 0; method < study.methods.size(); ++method)
        for (std::size_t point = 0; point < study.grid_points(); ++point)
            for (std::size_t s = 0; s < study.seeds.size(); ++s) {
                Row row{.method = method, .point = point, .seed = study.seeds[s]};
                auto cell = assign_cell(study, text, row);
                if (cell && hashes.insert(cell->hash).second)
                    found.emplace_back(s, std::move(*cell));
                plan.rows.push_back(std::move(row));
            }
    std::ranges::stable_sort(found, {}, &std::pair<std::size_t, Cell>::first);
    for (auto& [seed, cell] : found)
        plan.cells.push_back(std::move(cell));
    return plan;
}

CellFolder::CellFolder(fs::path folder, const Study& study) : path_(std::move(folder)) {
    steps_.push_back({.name = "run", .arguments = {(path_ / "job.toml").string(), "--out", run().string(), "--quiet"}});
    for (const Evaluation& evaluation : study.evaluations) {
        std::vector<std::string> arguments{(run() / "model.dither").string(), "--json"};
        arguments.insert(arguments.end(), evaluation.arguments.begin(), evaluation.arguments.end());
        const std::string key = json(evaluation.arguments).dump(-1, ' ', false, json::error_handler_t::replace);
        steps_.push_back({.name = "evaluate-" + short_hash(key, kShortHashDigits),
                          .arguments = std::move(arguments),
                          .evaluates = true});
        evaluations_.push_back(evaluation.name);
    }
}

CellState CellFolder::state() const {
    bool done = true;
    for (const CellStep& step : steps_) {
        if (fs::exists(failure(step)))
            return CellState::failed;
        done = done && fs::exists(result(step));
    }
    if (done)
        return CellState::done;
    return fs::exists(path_) ? CellState::interrupted : CellState::fresh;
}

std::string CellFolder::failure_text() const {
    for (const CellStep& step : steps_)
        if (fs::exists(failure(step))) {
            const json failed = read_json(failure(step));
            std::string last;
            for (const json& line : failed.value("stderr", json::array()))
                last = line.get<std::string>();
            return fmt::format("{} {}{}{}", failed.value("program", ""), failed.value("ending", ""),
                               last.empty() ? "" : ": ", last);
        }
    return "";
}

void CellFolder::forget_failures() const {
    for (const CellStep& step : steps_)
        fs::remove(failure(step));
}

CellRecord CellFolder::read(bool with_rounds) const {
    CellRecord record{.summary = read_json(run() / "summary.json")};
    if (with_rounds)
        record.rounds = read_lines(run() / "rounds.jsonl");
    for (std::size_t i = 0; i < evaluations_.size(); ++i)
        record.evaluations[evaluations_[i]] = read_json(result(steps_[i + 1]));
    return record;
}

}  // namespace dither
