#include "aggregator/record.hpp"

#include "core/error.hpp"
#include "core/version.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace dither {

namespace {

using Json = nlohmann::ordered_json;

double ratio(double numerator, double denominator) {
    return denominator > 0 ? numerator / denominator : 0;
}

double bits_per_coordinate(std::uint64_t bytes, std::uint64_t coordinates) {
    return ratio(8 * static_cast<double>(bytes), static_cast<double>(coordinates));
}

Json number(double value) {
    return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json number(const std::optional<double>& value) {
    return value ? number(*value) : Json(nullptr);
}

/// A key that only some jobs have.
void put_if(Json& object, const char* key, const std::optional<double>& value) {
    if (value)
        object[key] = number(*value);
}

/// A float with its own shortest digits: 0.1F is 0.1, not 0.10000000149011612.
Json number(float value) {
    std::array<char, 32> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    double shortest = 0;
    std::from_chars(digits.data(), end, shortest);
    return number(shortest);
}

Json statistic(float value) {
    return value < 0 ? Json(nullptr) : number(value);
}

/// 10 log10(||w||^2 / ||Q(w) - w||^2); null where nothing was rounded.
Json snr_db(float forward_error) {
    return forward_error > 0 ? number(static_cast<float>(-20 * std::log10(forward_error))) : Json(nullptr);
}

/// DESIGN's keys first, then the statistics beyond them.
Json layer_object(const LayerSpec& spec, const LayerStatistics& statistics, const LayerBits& bits) {
    Json object{{"name", spec.name}};
    const float curvature = statistics.curvature >= 0 ? statistics.curvature : statistics.curvature_norm;
    object["grad_norm"] = statistic(statistics.grad_norm);
    object["theta_norm"] = statistic(statistics.theta_norm);
    object["curvature"] = statistic(curvature);
    for (const Phase phase : kPhases)
        object["bits"][std::string(name_of(phase))] = bits[phase];
    object["saturation"] = statistic(statistics.saturation);
    object["snr_db"] = snr_db(statistics.forward_error);
    for_each_statistic(statistics, [&](const char* name, float value, Combine) {
        if (!object.contains(name))
            object[name] = statistic(value);
    });
    return object;
}

void put_bit_ops(Json& object, const BitOps& ops) {
    object["bit_ops"] = number(ops.training);
    object["bit_ops_fp32"] = number(ops.training_fp32);
    object["bit_ops_optimizer"] = number(ops.optimizer);
    object["bit_ops_optimizer_fp32"] = number(ops.optimizer_fp32);
    object["bit_ops_probe"] = number(ops.probe);
    object["bops"] = number(ops.bops);
    object["bops_fp32"] = number(ops.bops_fp32);
}

Json layer_bit_ops_object(const LayerBitOps& ops) {
    return {{"forward", number(ops.forward)}, {"backward", number(ops.backward)}, {"optimizer", number(ops.optimizer)}};
}

/// The mean width of forward and backward work; null without any.
Json mean_bits_of(const BitOps& ops) {
    return ops.training_fp32 > 0 ? number(kFullBits * ops.training / ops.training_fp32) : Json(nullptr);
}

Json change_object(const PlanChange& change, const Schema& schema) {
    return {{"layer", schema.layers()[change.layer].name},
            {"phase", name_of(change.phase)},
            {"from", change.from},
            {"to", change.to},
            {"reason", change.reason}};
}

Json spread_object(const Spread& spread) {
    return {{"mean", number(spread.mean)}, {"weighted_mean", number(spread.weighted_mean)},
            {"p10", number(spread.p10)},   {"p50", number(spread.p50)},
            {"p90", number(spread.p90)},   {"min", number(spread.min)},
            {"max", number(spread.max)}};
}

void put_clients(Json& object, const std::optional<ClientScores>& clients) {
    if (!clients)
        return;
    Json& scores = object["clients"];
    scores = {{"count", clients->count}, {"samples", clients->samples}};
    if (clients->accuracy)
        scores["accuracy"] = spread_object(*clients->accuracy);
    if (clients->personal_accuracy)
        scores["personal_accuracy"] = spread_object(*clients->personal_accuracy);
    scores["loss"] = spread_object(clients->loss);
    scores["personal_loss"] = spread_object(clients->personal_loss);
}

void put_errors(Json& object, const std::string& when, const std::optional<RegressionErrors>& errors) {
    if (!errors)
        return;
    object[when + "_rmse"] = number(errors->rmse);
    object[when + "_mae"] = number(errors->mae);
    object[when + "_r2"] = number(errors->r2);
}

std::vector<std::string> all_reasons(const RoundRecord& record, const Schema& schema) {
    std::vector<std::string> reasons = record.reason;
    for (const PlanChange& change : record.changes)
        reasons.push_back(describe(change, schema));
    return reasons;
}

Json quantiles_of(std::span<const std::uint64_t> counts) {
    std::vector<double> ascending(counts.begin(), counts.end());
    std::ranges::sort(ascending);
    return {{"p10", number(quantile(ascending, 0.1))},
            {"p50", number(quantile(ascending, 0.5))},
            {"p90", number(quantile(ascending, 0.9))},
            {"max", number(ascending.back())}};
}

}  // namespace

void RunTotals::add(const RoundRecord& record, std::uint64_t up, std::uint64_t down) {
    ++rounds;
    samples += record.samples;
    seconds += record.seconds;
    bytes_up += record.bytes_up;
    bytes_down += record.bytes_down;
    whole_models += record.whole_models;
    coordinates_up += up;
    coordinates_down += down;
    bit_ops += record.bit_ops;
    train_seconds += record.train_seconds;
    probe_seconds += record.probe_seconds;
    plan_changes += record.changes.size();
    if (record.test_loss)
        final_loss = record.test_loss;
    if (record.test_errors)
        final_errors = record.test_errors;
    if (record.clients)
        clients = record.clients;
    if (record.swa_loss)
        swa_loss = record.swa_loss;
    if (record.swa_accuracy)
        swa_accuracy = record.swa_accuracy;
    if (record.test_accuracy) {
        final_accuracy = record.test_accuracy;
        best_accuracy = std::max(best_accuracy.value_or(0), *record.test_accuracy);
    }
}

double RunTotals::compression() const {
    const double fp32_bytes = 4.0 * (static_cast<double>(coordinates_up) + static_cast<double>(coordinates_down));
    return ratio(fp32_bytes, static_cast<double>(bytes_up) + static_cast<double>(bytes_down));
}

std::string describe(const PlanChange& change, const Schema& schema) {
    return fmt::format("{} {} {} -> {}: {}", schema.layers()[change.layer].name, name_of(change.phase), change.from,
                       change.to, change.reason);
}

std::string to_json_line(const RoundRecord& record, const Schema& schema) {
    require(record.layers.size() == schema.layer_count() && record.plan.layers.size() == schema.layer_count(),
            "a record of {} layers under a plan of {}, expected {}", record.layers.size(), record.plan.layers.size(),
            schema.layer_count());
    require(record.work.empty() || record.work.size() == schema.layer_count(), "work of {} layers, expected {}",
            record.work.size(), schema.layer_count());
    Json line{{"round", record.round}, {"committed", record.committed}};
    line["train_loss"] = number(record.train_loss);
    line["test_loss"] = number(record.test_loss);
    line["test_accuracy"] = number(record.test_accuracy);
    put_errors(line, "test", record.test_errors);
    put_clients(line, record.clients);
    put_if(line, "swa_loss", record.swa_loss);
    put_if(line, "swa_accuracy", record.swa_accuracy);
    line["grad_norm"] = number(record.grad_norm);
    line["update_nmse"] = number(record.update_nmse);
    line["participants"] = record.participants;
    line["dropped"] = record.dropped;
    line["rejected"] = record.rejected;
    line["clipped"] = record.clipped;
    line["samples"] = record.samples;
    line["bytes_up"] = record.bytes_up;
    line["bytes_down"] = record.bytes_down;
    line["whole_models"] = record.whole_models;
    put_bit_ops(line, record.bit_ops);
    line["mean_bits"] = mean_bits_of(record.bit_ops);
    line["plans"] = record.plans;
    line["seconds"] = number(record.seconds);
    line["train_seconds"] = number(record.train_seconds);
    line["probe_seconds"] = number(record.probe_seconds);
    line["simulated_seconds"] = number(record.simulated_seconds);
    line["model_sha256"] = to_hex(record.model);
    line["layers"] = Json::array();
    for (std::size_t layer = 0; layer < schema.layer_count(); ++layer) {
        line["layers"].push_back(layer_object(schema.layers()[layer], record.layers[layer], record.plan.layers[layer]));
        line["layers"].back()["bit_ops"] =
            record.work.empty() ? Json(nullptr) : layer_bit_ops_object(record.work[layer]);
    }
    line["reason"] = fmt::format("{}", fmt::join(all_reasons(record, schema), "; "));
    line["changes"] = Json::array();
    for (const PlanChange& change : record.changes)
        line["changes"].push_back(change_object(change, schema));
    // A peer's reason may hold any bytes; what is not UTF-8 is replaced rather than thrown at the run.
    return line.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string to_summary_json(const Job& job, const RunTotals& totals, const Sha256& model, const RunPlace& place,
                            std::span<const std::uint64_t> device_bytes) {
    Json summary;
    summary["final_accuracy"] = number(totals.final_accuracy);
    summary["final_loss"] = number(totals.final_loss);
    summary["best_accuracy"] = number(totals.best_accuracy);
    put_errors(summary, "final", totals.final_errors);
    put_clients(summary, totals.clients);
    put_if(summary, "swa_accuracy", totals.swa_accuracy);
    put_if(summary, "swa_loss", totals.swa_loss);
    summary["rounds"] = totals.rounds;
    summary["samples"] = totals.samples;
    summary["samples_per_s"] = number(ratio(static_cast<double>(totals.samples), totals.seconds));
    summary["seconds"] = number(totals.seconds);
    summary["bytes_up"] = totals.bytes_up;
    summary["bytes_down"] = totals.bytes_down;
    summary["whole_models"] = totals.whole_models;
    summary["bits_per_coordinate_up"] = number(bits_per_coordinate(totals.bytes_up, totals.coordinates_up));
    summary["bits_per_coordinate_down"] = number(bits_per_coordinate(totals.bytes_down, totals.coordinates_down));
    summary["compression_total"] = number(totals.compression());
    put_bit_ops(summary, totals.bit_ops);
    summary["bit_ops_ratio_fp32"] =
        number(ratio(totals.bit_ops.training + totals.bit_ops.probe, totals.bit_ops.training_fp32));
    summary["bops_ratio_fp32"] = number(ratio(totals.bit_ops.bops, totals.bit_ops.bops_fp32));
    summary["mean_bits"] = mean_bits_of(totals.bit_ops);
    summary["plan_changes"] = totals.plan_changes;
    summary["train_seconds"] = number(totals.train_seconds);
    summary["probe_seconds"] = number(totals.probe_seconds);
    summary["simulated_seconds"] = number(totals.simulated_seconds);
    if (!device_bytes.empty())
        summary["device_bytes"] = quantiles_of(device_bytes);
    summary["probe_share"] = number(ratio(totals.probe_seconds, totals.train_seconds));
    summary["model_sha256"] = to_hex(model);
    summary["seed"] = job.job.seed;
    summary["ranks"] = place.ranks;
    summary["backend"] = place.backend;
    summary["cpu"] = place.cpu;
    summary["version"] = version();
    summary["job"] = to_toml(job);
    return summary.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace dither
