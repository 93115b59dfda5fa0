#include "aggregator/daemon/status.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <utility>

namespace dither {

namespace {

constexpr unsigned kUnavailable = 503;

/// Prometheus' text format 0.0.4, metric by metric.
class Exposition {
public:
    void metric(std::string_view name, std::string_view type, std::string_view help) {
        name_ = name;
        text_ += fmt::format("# HELP dither_{0} {2}\n# TYPE dither_{0} {1}\n", name, type, help);
    }
    template <typename Number>
    void sample(Number value, std::string_view labels = {}) {
        text_ += fmt::format("dither_{}{} {}\n", name_, labels, value);
    }
    template <typename Number>
    void one(std::string_view name, std::string_view type, std::string_view help, Number value) {
        metric(name, type, help);
        sample(value);
    }
    std::string text() && { return std::move(text_); }

private:
    std::string_view name_;
    std::string text_;
};

double mean_bits(const PrecisionPlan& plan, Phase phase) {
    double sum = 0;
    for (const LayerBits& layer : plan.layers)
        sum += layer[phase];
    return plan.layers.empty() ? 0 : sum / static_cast<double>(plan.layers.size());
}

}  // namespace

Status::Status(const Job& job, std::function<HubStatistics()> connections)
    : name_(job.job.name),
      rounds_(job.job.rounds),
      connections_(std::move(connections)),
      cohort_(job.federation.cohort) {}

void Status::show(const Progress& progress) {
    const std::lock_guard lock(mutex_);
    round_ = progress.round;
    arrived_ = progress.arrived;
    cohort_ = progress.cohort;
    if (progress.ended == nullptr)
        return;
    const RoundRecord& record = *progress.ended;
    ++(record.committed ? committed_ : abandoned_);
    accepted_ += record.participants;
    rejected_ += record.rejected;
    dropped_ += record.dropped;
    bytes_up_ += record.bytes_up;
    bytes_down_ += record.bytes_down;
    if (record.test_accuracy)
        accuracy_ = record.test_accuracy;
    last_ = record;
}

void Status::end(std::string why) {
    const std::lock_guard lock(mutex_);
    ended_ = std::move(why);
}

std::optional<HttpPage> Status::page(std::string_view path) const {
    const std::lock_guard lock(mutex_);
    if (path == "/status")
        return HttpPage{.type = "application/json", .body = json()};
    if (path == "/metrics")
        return HttpPage{.type = "text/plain; version=0.0.4; charset=utf-8", .body = metrics()};
    if (path == "/healthz")
        return HttpPage{.type = "text/plain; charset=utf-8",
                        .body = (ended_.empty() ? "ok" : ended_) + '\n',
                        .status = ended_.empty() ? 200 : kUnavailable};
    return std::nullopt;
}

std::string Status::state() const {
    if (!ended_.empty())
        return ended_;
    return round_ == 0 ? "waiting for nodes" : "running";
}

std::string Status::json() const {
    const HubStatistics hub = connections_();
    nlohmann::ordered_json status{
        {"job", name_},
        {"state", state()},
        {"round", round_},
        {"rounds", rounds_},
        {"arrived", arrived_},
        {"cohort", cohort_},
        {"peers", hub.peers},
        {"connections", hub.connections},
        {"since_start",
         {{"rounds_committed", committed_},
          {"rounds_abandoned", abandoned_},
          {"updates_accepted", accepted_},
          {"updates_rejected", rejected_},
          {"clients_dropped", dropped_},
          {"bytes_up", bytes_up_},
          {"bytes_down", bytes_down_},
          {"connections_accepted", hub.accepted},
          {"connections_refused", hub.refused}}},
    };
    if (accuracy_)
        status["test_accuracy"] = *accuracy_;
    if (last_)
        status["last_round"] = {{"round", last_->round},
                                {"committed", last_->committed},
                                {"participants", last_->participants},
                                {"seconds", last_->seconds},
                                {"model_sha256", to_hex(last_->model)}};
    return status.dump(2) + '\n';
}

std::string Status::metrics() const {
    const HubStatistics hub = connections_();
    Exposition out;
    out.one("round", "gauge", "The round that runs, or that has just ended.", round_);
    out.one("updates_in_round", "gauge", "Updates of the running round that were accepted.", arrived_);
    out.one("peers", "gauge", "Nodes that are connected, have proved who they are and said hello.", hub.peers);
    out.one("connections", "gauge", "Connections, those of strangers included.", hub.connections);
    out.metric("connections_total", "counter", "Connections since the start.");
    out.sample(hub.accepted, R"({result="accepted"})");
    out.sample(hub.refused, R"({result="refused"})");
    out.metric("rounds_total", "counter", "Rounds that have ended since the start.");
    out.sample(committed_, R"({result="committed"})");
    out.sample(abandoned_, R"({result="abandoned"})");
    out.metric("updates_total", "counter", "Updates of ended rounds.");
    out.sample(accepted_, R"({result="accepted"})");
    out.sample(rejected_, R"({result="rejected"})");
    out.one("clients_dropped_total", "counter", "Clients that were lost or late.", dropped_);
    out.metric("bytes_total", "counter", "Frames of ended rounds, headers included.");
    out.sample(bytes_up_, R"({direction="up"})");
    out.sample(bytes_down_, R"({direction="down"})");
    if (accuracy_)
        out.one("test_accuracy", "gauge", "Of the last evaluation, 0 to 1.", *accuracy_);
    if (!last_)
        return std::move(out).text();
    out.one("round_seconds", "gauge", "The last round's time.", last_->seconds);
    if (last_->train_loss)
        out.one("train_loss", "gauge", "Of the last round's participants.", *last_->train_loss);
    out.metric("plan_bits", "gauge", "Mean over the layers of the bits that the last round ran.");
    for (const Phase phase : kPhases)
        out.sample(mean_bits(last_->plan, phase), fmt::format(R"({{phase="{}"}})", name_of(phase)));
    return std::move(out).text();
}

}  // namespace dither
