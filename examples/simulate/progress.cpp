#include "examples/simulate/progress.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

namespace dither {
namespace {

constexpr int kBarWidth = 24;

std::string human_bytes(double bytes) {
    const char* unit = "B";
    for (const char* larger : {"kB", "MB", "GB"}) {
        if (bytes < 1000)
            break;
        bytes /= 1000;
        unit = larger;
    }
    return fmt::format("{:.3g} {}", bytes, unit);
}

std::string human_seconds(double seconds) {
    if (seconds < 100)
        return fmt::format("{:.0f} s", seconds);
    if (seconds < 6000)
        return fmt::format("{:.0f} min", seconds / 60);
    return fmt::format("{:.1f} h", seconds / 3600);
}

/// Forward and backward work, and what the controller's measurements of the curvature cost on top.
double bit_operations(const BitOps& ops) {
    return ops.training + ops.probe;
}

double mean_bits(const BitOps& ops) {
    return ops.training_fp32 > 0 ? 32 * bit_operations(ops) / ops.training_fp32 : 32;
}

constexpr std::size_t kMostReasons = 3;

/// The first reasons of the round, and how many more there are. The links' grids follow the updates all the time, so
/// their changes are left to rounds.jsonl.
std::vector<std::string> first_reasons(const RoundRecord& record, const Schema& schema) {
    std::vector<std::string> reasons = record.reason;
    for (const PlanChange& change : record.changes)
        if (change.phase != Phase::uplink && change.phase != Phase::downlink)
            reasons.push_back(describe(change, schema));
    if (reasons.size() > kMostReasons + 1) {
        const std::size_t more = reasons.size() - kMostReasons;
        reasons.resize(kMostReasons);
        reasons.push_back(fmt::format("+{} more", more));
    }
    return reasons;
}

/// "81.2 % (p10 62, personal 88)", or the losses of a regression.
std::string in_words(const ClientScores& clients) {
    if (clients.accuracy && clients.personal_accuracy)
        return fmt::format("{:.1f} % (p10 {:.0f}, personal {:.0f})", 100 * clients.accuracy->mean,
                           100 * clients.accuracy->p10, 100 * clients.personal_accuracy->mean);
    return fmt::format("loss {:.4g} (p90 {:.4g}, personal {:.4g})", clients.loss.mean, clients.loss.p90,
                       clients.personal_loss.mean);
}

std::string percent(double part, double whole) {
    return fmt::format("{:.1f} %", whole > 0 ? 100 * part / whole : 0);
}

}  // namespace

ProgressDisplay::ProgressDisplay(std::uint32_t rounds, bool live) : rounds_(rounds), live_(live) {}

ProgressDisplay::~ProgressDisplay() {
    if (drawn_)
        std::fputs("\n", stderr);
}

void ProgressDisplay::show(const Progress& progress) {
    if (progress.ended != nullptr)
        end_round(*progress.ended, *progress.schema);
    if (live_)
        draw(progress);
}

void ProgressDisplay::end_round(const RoundRecord& record, const Schema& schema) {
    ++ended_;
    last_round_ = record.round;
    seconds_ += record.seconds;
    bytes_ += record.bytes_up + record.bytes_down;
    last_ = record.train_loss ? fmt::format("train loss {:.3f}", *record.train_loss) : "abandoned";
    if (record.test_accuracy)
        last_ += fmt::format("  accuracy {:.2f} %", 100 * *record.test_accuracy);
    else if (record.test_loss)
        last_ += fmt::format("  test loss {:.4g}", *record.test_loss);
    if (record.test_errors)
        last_ += fmt::format("  RMSE {:.4g}", record.test_errors->rmse);
    if (record.clients)
        last_ += "  clients " + in_words(*record.clients);
    simulated_seconds_ += record.simulated_seconds;
    if (simulated_seconds_ > 0)
        last_ += fmt::format("  {} on the devices", human_seconds(simulated_seconds_));
    last_ += fmt::format("  {:.2f} bits  {} sent", mean_bits(record.bit_ops), human_bytes(static_cast<double>(bytes_)));
    if (!live_)
        fmt::print(stderr, "round {}/{}  {}  {:.1f} s  {} left\n", record.round, rounds_, last_, record.seconds,
                   time_left());
    const std::vector<std::string> reasons = first_reasons(record, schema);
    if (live_ && !reasons.empty())  // above the bar, where they stay
        fmt::print(stderr, "\r\x1b[Kround {}:\n", record.round);
    for (const std::string& reason : reasons)
        fmt::print(stderr, "    {}\n", reason);
}

void ProgressDisplay::draw(const Progress& progress) {
    const double within =
        progress.ended != nullptr || progress.cohort == 0 ? 0 : static_cast<double>(progress.arrived) / progress.cohort;
    const double rounds_done = progress.ended != nullptr ? progress.round : progress.round - 1;
    const double share = std::min(1.0, (rounds_done + within) / rounds_);
    const int filled = static_cast<int>(share * kBarWidth);
    fmt::print(stderr, "\r\x1b[K[{:=<{}}{: <{}}] round {}/{}  {}  {} left", "", filled, "", kBarWidth - filled,
               progress.round, rounds_, last_, time_left());
    std::fflush(stderr);
    drawn_ = true;
}

std::string ProgressDisplay::time_left() const {
    if (ended_ == 0)
        return "?";
    return human_seconds(seconds_ / ended_ * (rounds_ - last_round_));
}

std::string result_table(const Job& job, const RunResult& result, const RunPlace& place) {
    const RunTotals& t = result.totals;
    std::string text =
        fmt::format("\n{}: {} rounds, seed {}, {} on {} ({})\n", job.job.name, t.rounds, job.job.seed,
                    place.ranks > 1 ? fmt::format("{} ranks", place.ranks) : "one process", place.cpu, place.backend);
    const auto row = [&text](std::string_view name, const std::string& value, const std::string& against) {
        text += fmt::format("  {:<16} {:>14}   {}\n", name, value, against);
    };
    if (t.final_accuracy)
        row("accuracy", fmt::format("{:.2f} %", 100 * *t.final_accuracy),
            fmt::format("best {:.2f} %", 100 * *t.best_accuracy));
    if (t.final_loss)
        row("test loss", fmt::format("{:.4f}", *t.final_loss), "");
    if (t.final_errors) {
        const RegressionErrors& errors = *t.final_errors;
        row("RMSE", fmt::format("{:.4g}", errors.rmse),
            fmt::format("MAE {:.4g}{}", errors.mae, errors.r2 ? fmt::format(", R2 {:.4f}", *errors.r2) : ""));
    }
    if (t.clients)
        row("clients", fmt::format("{}", t.clients->count), in_words(*t.clients));
    const double bytes = static_cast<double>(t.bytes_up + t.bytes_down);
    row("bytes", human_bytes(bytes),
        fmt::format(
            "{} of fp32 ({:.2f} bits a coordinate up, {:.2f} down)", percent(1, t.compression()),
            8.0 * static_cast<double>(t.bytes_up) / static_cast<double>(std::max<std::uint64_t>(1, t.coordinates_up)),
            8.0 * static_cast<double>(t.bytes_down) /
                static_cast<double>(std::max<std::uint64_t>(1, t.coordinates_down))));
    row("bit-operations", fmt::format("{:.3g}", bit_operations(t.bit_ops)),
        fmt::format("{} of fp32 ({:.2f} bits on average)", percent(bit_operations(t.bit_ops), t.bit_ops.training_fp32),
                    mean_bits(t.bit_ops)));
    row("seconds", fmt::format("{:.1f}", t.seconds),
        fmt::format("{:.0f} samples a second", t.seconds > 0 ? static_cast<double>(t.samples) / t.seconds : 0));
    if (t.simulated_seconds > 0)
        row("simulated", human_seconds(t.simulated_seconds),
            fmt::format("on the devices, {:.6g} s", t.simulated_seconds));
    row("model", to_hex(result.model).substr(0, 14), "SHA-256 " + to_hex(result.model));
    return text;
}

}  // namespace dither
