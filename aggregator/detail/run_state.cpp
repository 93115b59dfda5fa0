#include "aggregator/detail/run_state.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <map>
#include <sstream>
#include <utility>

namespace dither {

namespace {

/// "section.key" -> the rest of the line, of TOML as to_toml writes it.
std::map<std::string, std::string> settings_of(std::string_view toml) {
    std::map<std::string, std::string> settings;
    std::istringstream lines{std::string(toml)};
    std::string section;
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with('[')) {
            section = line.substr(1, line.find(']') - 1);
        } else if (const std::size_t equals = line.find(" = "); equals != std::string::npos) {
            const std::string key = section + '.' + line.substr(0, equals);
            if (section != "output" && section != "compute")
                settings[key] = line.substr(equals);
        }
    }
    return settings;
}

/// Whether the run's length decides results, too.
bool anneals(const std::map<std::string, std::string>& settings) {
    const auto schedule = settings.find("train.schedule");
    return schedule != settings.end() && schedule->second.find("\"cosine\"") != std::string::npos;
}

}  // namespace

std::string differing_keys(std::string_view one, std::string_view other) {
    auto left = settings_of(one);
    auto right = settings_of(other);
    if (!anneals(left) || !anneals(right)) {
        left.erase("job.rounds");
        right.erase("job.rounds");
    }
    std::map<std::string, std::string> all = left;
    all.merge(std::map(right));
    std::string keys;
    for (const auto& [key, value] : all)
        if (left[key] != right[key])
            keys += (keys.empty() ? "" : ", ") + key;
    return keys;
}

RunState::RunState(const Job& the_job, Model& the_model, const ServerMakers& makers)
    : job(the_job),
      model(the_model),
      controller(job, model.schema(), makers),
      strategy(makers.strategy(job, model.schema())),
      bound(job.federation.aggregation.kind == "mean" ? job.federation.aggregation.clip : 0) {
    model.initialize(job.job.seed);
    controller.start(model.parameters());
    evaluated_plan = controller.plan();
    model_is_good();
}

void RunState::model_is_good() {
    if (!controller.judges())
        return;
    const std::span<const float> parameters = std::as_const(model).parameters();
    const std::span<const float> kept = strategy->state();
    good = {.round = model_round,
            .model = {parameters.begin(), parameters.end()},
            .strategy = {kept.begin(), kept.end()},
            .links = controller.links_state(),
            .averaged = {average.model().begin(), average.model().end()},
            .averaged_rounds = average.rounds()};
}

std::optional<std::uint32_t> RunState::roll_back() {
    if (good.model.empty() || good.round == model_round)
        return std::nullopt;
    std::ranges::copy(good.model, model.parameters().begin());
    strategy->restore(good.strategy);
    controller.restore_links(good.links);
    average.restore(good.averaged, good.averaged_rounds);
    return model_round = good.round;
}

void RunState::restore(Checkpoint checkpoint, const std::filesystem::path& file) {
    if (checkpoint.version < kCheckpointVersion)
        throw InputError(fmt::format("{} was written by an earlier version ({}): runs of version {} can be resumed",
                                     file.string(), checkpoint.version, kCheckpointVersion));
    if (checkpoint.job_identity != identity(job))
        throw InputError(fmt::format("{} is a checkpoint of another job: it differs in {}", file.string(),
                                     differing_keys(checkpoint.job, to_toml(job))));
    if (checkpoint.schema != model.schema())
        throw InputError(fmt::format("{} is a checkpoint of another model: {} parameters, expected {}", file.string(),
                                     checkpoint.model.size(), model.schema().parameters()));
    if (const auto& clients = checkpoint.counted.clients();
        !clients.empty() && clients.back() >= job.federation.clients)
        throw InputError(fmt::format("{} is a checkpoint of client {}, expected at most {}", file.string(),
                                     clients.back(), job.federation.clients - 1));
    std::copy(checkpoint.model.begin(), checkpoint.model.end(), model.parameters().begin());
    try {
        if (!checkpoint.good.model.empty()) {  // what roll_back will restore
            strategy->restore(checkpoint.good.strategy);
            controller.restore_links(checkpoint.good.links);
        }
        controller.restore(checkpoint.controller);
        strategy->restore(checkpoint.strategy);
    } catch (const PreconditionError& e) {
        throw InputError(fmt::format("{} holds a state that this job cannot have: {}", file.string(), e.what()));
    }
    totals = checkpoint.totals;
    round = checkpoint.round;
    evaluated_plan = std::move(checkpoint.evaluated_plan);
    abandoned_in_a_row = checkpoint.abandoned_in_a_row;
    log_line = std::move(checkpoint.log_line);
    average.restore(checkpoint.averaged, checkpoint.averaged_rounds);
    model_round = checkpoint.model_round;
    good = std::move(checkpoint.good);
    history = std::move(checkpoint.history);
    counted = std::move(checkpoint.counted);
    residual = std::move(checkpoint.residual);
    device_bytes = std::move(checkpoint.device_bytes);
    bound.restore(checkpoint.typical_norm);
}

CheckpointView RunState::checkpoint() const {
    return {.job = to_toml(job),
            .job_identity = identity(job),
            .round = round,
            .schema = model.schema(),
            .model = std::as_const(model).parameters(),
            .plan = controller.plan(),
            .evaluated_plan = evaluated_plan,
            .controller = controller.state(),
            .strategy = strategy->state(),
            .totals = totals,
            .abandoned_in_a_row = abandoned_in_a_row,
            .log_line = log_line,
            .averaged = average.model(),
            .averaged_rounds = average.rounds(),
            .model_round = model_round,
            .good = good,
            .history = history,
            .counted = counted,
            .residual = residual,
            .typical_norm = bound.typical(),
            .device_bytes = device_bytes};
}

}  // namespace dither
