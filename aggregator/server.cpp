#include "aggregator/server.hpp"

#include "aggregator/detail/round_runner.hpp"
#include "aggregator/detail/run_state.hpp"
#include "aggregator/sampling.hpp"
#include "core/error.hpp"
#include "core/model/evaluate.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace dither {

namespace {

constexpr int kAbandonedInARow = 3;

/// cohort * over_select, rounded up; never more than there are.
std::uint32_t clients_to_ask(const FederationOptions& options) {
    const double wanted = std::ceil(options.cohort * options.over_select);
    return static_cast<std::uint32_t>(std::min<double>(wanted, options.clients));
}

RoundRules rules_of(const FederationOptions& options) {
    const auto quorum = static_cast<std::uint32_t>(std::ceil(options.quorum * options.cohort));
    return {.cohort = options.cohort, .quorum = std::clamp<std::uint32_t>(quorum, 1, options.cohort)};
}

bool all_finite(std::span<const float> values) {
    return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

/// Means over the participants, whose reports are in ascending order of clients.
double mean_train_loss(std::span<const WeightedReport> reports) {
    double sum = 0;
    double weight = 0;
    for (const WeightedReport& report : reports) {
        sum += static_cast<double>(report.weight) * report.report.train_loss;
        weight += static_cast<double>(report.weight);
    }
    return sum / weight;
}

double total_gradient_norm(std::span<const LayerStatistics> layers) {
    double squares = 0;
    for (const LayerStatistics& layer : layers)
        if (layer.grad_norm >= 0)
            squares += static_cast<double>(layer.grad_norm) * layer.grad_norm;
    return std::sqrt(squares);
}

/// The run itself: between the rounds, the model and the disk.
class Server {
public:
    explicit Server(const ServerSetup& setup);
    ~Server() { runner_.dismiss(farewell_); }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    /// Before run(): restores or saves the state, and writes the resolved job.
    void open_folder(bool resume);
    RunResult run();

private:
    RoundOrder order(std::uint32_t round);
    RoundPlan broadcast(std::uint32_t round);

    /// Ends a round that was closed or abandoned: model, plan, disk, peers.
    void finish(RoundOutcome outcome);
    /// model <- strategy(mean); false, and the model as it was, if that is not finite.
    bool advance_model();
    RoundRecord begin_record(const RoundOutcome& outcome) const;
    void add_training(RoundRecord& record, RoundOutcome& outcome) const;
    void evaluate_if_due(RoundRecord& record);
    /// The controller's answer to a round that could not be used; false if nothing is left to try.
    bool react_to_abandoned(RoundRecord& record, const RoundOutcome& outcome);
    [[noreturn]] void give_up(const RoundRecord& record, const std::string& reason);
    void add_reasons(RoundRecord& record, std::span<const PlanChange> changes) const;
    /// Totals, checkpoint, peers, log, in the order that loses nothing.
    void keep(const RoundRecord& record, const RoundOutcome& outcome);
    void save();

    Sha256 model_hash() const { return sha256(std::as_const(*model_).parameters()); }
    RunResult result(bool interrupted);

    const ServerSetup& setup_;
    const Job& job_;
    std::unique_ptr<Model> model_;
    std::unique_ptr<Loss> loss_;
    RunState state_;
    std::unique_ptr<Codec> downlink_;
    RoundRunner runner_;
    std::vector<float> mean_;
    std::vector<float> next_;  ///< the broadcast as nodes decode it, or the next model until it is known to be sound
    std::optional<std::uint32_t> saved_round_;
    int abandoned_in_a_row_ = 0;
    Clock::time_point mark_;  ///< when the seconds of the running round began
    std::string farewell_ = "the run failed";
};

Server::Server(const ServerSetup& setup)
    : setup_(setup),
      job_(setup.job),
      model_(make_model(job_.model, job_.quantize, setup.input, setup.backend)),
      loss_(make_loss(job_.train.loss)),
      state_(job_, *model_),
      downlink_(make_codec(job_.codec.downlink, model_->schema())),
      runner_(setup.hub, job_, model_->schema(), *state_.strategy, setup.stop,
              [this](std::uint32_t round, std::uint32_t arrived) {
                  if (setup_.progress)
                      setup_.progress({round, arrived, job_.federation.cohort, nullptr});
              }),
      mean_(model_->schema().parameters()),
      next_(model_->schema().parameters()) {}

void Server::open_folder(bool resume) {
    RunFolder& folder = setup_.folder;
    if (resume) {
        state_.restore(load_checkpoint(folder.checkpoint_file()), folder.checkpoint_file());
        saved_round_ = state_.round;
    }
    write_durably(folder.path() / "job.resolved.toml", to_toml(job_));
    if (!resume)
        save();  // so that an early interrupt can be resumed, too
    const std::uint32_t logged = folder.open_log(state_.round);
    if (logged < state_.round)
        folder.append_round(state_.log_line);  // the last run died between its checkpoint and its log
}

RunResult Server::run() {
    if (state_.round < job_.job.rounds && !runner_.gather_peers(setup_.peers))
        return result(true);
    mark_ = Clock::now();
    while (state_.round < job_.job.rounds) {
        RoundOutcome outcome = runner_.run(order(state_.round + 1));
        if (outcome.end == RoundOutcome::End::interrupted)
            return result(true);
        finish(std::move(outcome));
    }
    write_durably(setup_.folder.path() / "summary.json",
                  to_summary_json(job_, state_.totals, model_hash(), setup_.place));
    return result(false);
}

RunResult Server::result(bool interrupted) {
    if (saved_round_ != state_.round)
        save();
    farewell_ = interrupted ? "the run was interrupted" : "the run is complete";
    return {.totals = state_.totals, .model = model_hash(), .interrupted = interrupted};
}

RoundOrder Server::order(std::uint32_t round) {
    const FederationOptions& federation = job_.federation;
    RoundOrder order;
    order.asked = sample_uniform(federation.clients, clients_to_ask(federation), job_.job.seed, round);
    for (std::size_t place = 0; place < order.asked.size(); ++place)
        order.probes.push_back(state_.controller.probe_for(round, place));
    order.rules = rules_of(federation);
    order.deadline = federation.deadline;
    order.task = broadcast(round);
    return order;
}

RoundPlan Server::broadcast(std::uint32_t round) {
    const std::span<const float> parameters = std::as_const(*model_).parameters();
    const std::span<const float> uplink = state_.controller.uplink_steps();
    RoundPlan task{.round = round,
                   .plan = state_.controller.plan(),
                   .uplink_steps = {uplink.begin(), uplink.end()},
                   .downlink_steps = state_.controller.downlink_steps(parameters)};
    const StreamKey key{.seed = job_.job.seed, .purpose = Purpose::downlink_rounding, .round = round};
    downlink_->encode(parameters, task.downlink_steps, key, task.payload);
    downlink_->decode(task.payload, task.downlink_steps, next_);
    task.model = sha256(std::span<const float>(next_));
    return task;
}

void Server::finish(RoundOutcome outcome) {
    if (outcome.end == RoundOutcome::End::closed && !advance_model()) {
        outcome.end = RoundOutcome::End::abandoned;
        outcome.diverged = true;
        outcome.reason = "the averaged model is not finite";
    }
    RoundRecord record = begin_record(outcome);
    add_training(record, outcome);
    evaluate_if_due(record);
    if (record.committed) {
        abandoned_in_a_row_ = 0;
        add_reasons(record, state_.controller.learn(record.round, *record.train_loss, record.layers));
    }
    const bool can_go_on = record.committed || react_to_abandoned(record, outcome);
    const auto now = Clock::now();
    record.seconds = std::chrono::duration<double>(now - std::exchange(mark_, now)).count();
    if (!can_go_on)
        give_up(record, outcome.reason);
    keep(record, outcome);
}

bool Server::advance_model() {
    const std::span<float> parameters = model_->parameters();
    runner_.mean(mean_);
    std::copy(parameters.begin(), parameters.end(), next_.begin());
    state_.strategy->apply(mean_, next_);
    if (!all_finite(next_))
        return false;
    std::copy(next_.begin(), next_.end(), parameters.begin());
    return true;
}

RoundRecord Server::begin_record(const RoundOutcome& outcome) const {
    RoundRecord record;
    record.round = state_.round + 1;
    record.committed = outcome.end == RoundOutcome::End::closed;
    record.participants = static_cast<std::uint32_t>(outcome.reports.size());
    record.dropped = outcome.dropped;
    record.rejected = outcome.rejected;
    record.plan = state_.controller.plan();
    record.model = model_hash();
    record.bytes_up = outcome.bytes_up;
    record.bytes_down = outcome.bytes_down + (record.committed ? runner_.commit_bytes(record.model) : 0);
    return record;
}

void Server::add_training(RoundRecord& record, RoundOutcome& outcome) const {
    record.layers = combine(outcome.reports, model_->schema().layer_count());
    if (outcome.reports.empty())
        return;
    record.train_loss = mean_train_loss(outcome.reports);
    record.grad_norm = total_gradient_norm(record.layers);
    std::uint64_t steps = 0;
    for (const WeightedReport& report : outcome.reports) {
        record.samples += report.report.samples * job_.train.epochs;
        steps += report.report.steps;
    }
    record.bit_ops = count_bit_ops(model_->schema(), record.plan, record.samples, steps);
}

void Server::evaluate_if_due(RoundRecord& record) {
    const bool due = record.round % job_.job.evaluate_every == 0 || record.round == job_.job.rounds;
    if (!due || setup_.test.size() == 0)
        return;
    const Score score = evaluate(*model_, *loss_, setup_.test, &record.plan);
    record.test_loss = score.mean_loss();
    if (setup_.test.classes() > 0)
        record.test_accuracy = score.accuracy();
}

bool Server::react_to_abandoned(RoundRecord& record, const RoundOutcome& outcome) {
    record.reason.push_back(outcome.reason);
    const bool too_often = ++abandoned_in_a_row_ == kAbandonedInARow;
    if (!outcome.diverged)
        return !too_often;
    const auto changes = state_.controller.alarm(outcome.reason);
    add_reasons(record, changes);
    return !too_often && !changes.empty();
}

void Server::give_up(const RoundRecord& record, const std::string& reason) {
    setup_.folder.append_round(to_json_line(record, model_->schema()));
    throw TrainingError(fmt::format("round {} was abandoned and nothing is left to try: {}", record.round, reason));
}

void Server::add_reasons(RoundRecord& record, std::span<const PlanChange> changes) const {
    for (const PlanChange& change : changes)
        record.reason.push_back(describe(change, model_->schema()));
}

void Server::keep(const RoundRecord& record, const RoundOutcome& outcome) {
    const std::uint64_t parameters = model_->schema().parameters();
    state_.totals.add(record, record.participants * parameters, outcome.sent_models * parameters);
    state_.round = record.round;
    state_.log_line = to_json_line(record, model_->schema());
    // Durable before anyone is told: a node may forget its update once it hears of the commit.
    if (record.round % job_.output.checkpoint_every == 0 || record.round == job_.job.rounds)
        save();
    if (record.committed)
        runner_.commit(record.model);
    setup_.folder.append_round(state_.log_line);
    if (setup_.progress)
        setup_.progress({record.round, record.participants, job_.federation.cohort, &record});
}

void Server::save() {
    save_checkpoint(setup_.folder.checkpoint_file(), state_.checkpoint());
    saved_round_ = state_.round;
}

/// However the run ends, nobody waits for it any longer.
struct ClosedAtTheEnd {
    Hub& hub;
    ~ClosedAtTheEnd() { hub.close(); }
};

}  // namespace

RunResult run_server(const ServerSetup& setup, bool resume) {
    const ClosedAtTheEnd closed{setup.hub};
    Server server(setup);
    server.open_folder(resume);
    return server.run();
}

}  // namespace dither
