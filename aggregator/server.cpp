#include "aggregator/server.hpp"

#include "aggregator/checkpoint.hpp"
#include "aggregator/detail/round_runner.hpp"
#include "aggregator/detail/run_state.hpp"
#include "aggregator/sampling.hpp"
#include "core/error.hpp"
#include "core/model/evaluate.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace dither {

namespace {

constexpr std::uint32_t kAbandonedInARow = 3;

/// cohort * over_select, rounded up; never more than there are.
std::uint32_t clients_to_ask(const FederationOptions& options) {
    const double wanted = scaled_up(options.cohort, options.over_select);
    return static_cast<std::uint32_t>(std::min<double>(wanted, options.clients));
}

RoundRules rules_of(const FederationOptions& options) {
    const auto quorum = static_cast<std::uint32_t>(scaled_up(options.cohort, options.quorum));
    return {.cohort = options.cohort, .quorum = std::clamp<std::uint32_t>(quorum, 1, options.cohort)};
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
    RoundRecord begin_record(RoundOutcome& outcome) const;
    /// model <- strategy(mean), evaluated if that is due. Returns why that model cannot be kept, and the model is then
    /// as it was; empty if it can.
    std::string advance_model(RoundRecord& record);
    /// Why the model cannot be evaluated; empty if it was, or if that was not due.
    std::string evaluate_if_due(RoundRecord& record);
    bool evaluation_is_due(const RoundRecord& record) const;
    Score evaluate_model(const RoundRecord& record);
    /// SWA: a committed model enters the average, which is evaluated if that is due. The model is as it was afterwards.
    void average_models(RoundRecord& record);
    void evaluate_average(RoundRecord& record);
    void count_work(RoundRecord& record, const RoundOutcome& outcome) const;
    void conclude(RoundRecord& record, const RoundOutcome& outcome);
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
    Clock::time_point mark_;   ///< when the seconds of the running round began
    std::string farewell_ = "the run failed";
};

Server::Server(const ServerSetup& setup)
    : setup_(setup),
      job_(setup.job),
      model_(make_model(job_.model, job_.quantize, setup.input, setup.backend)),
      loss_(make_loss(job_.train.loss)),
      state_(job_, *model_),
      downlink_(make_codec(job_.codec.downlink, model_->schema())),
      runner_(setup.hub, job_, model_->schema(), *state_.strategy, setup.stop, setup.now,
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
    mark_ = setup_.now();
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
    farewell_ = interrupted ? "the run was interrupted" : "the run is complete";
    return {.totals = state_.totals, .model = model_hash(), .interrupted = interrupted};
}

RoundOrder Server::order(std::uint32_t round) {
    const FederationOptions& federation = job_.federation;
    RoundOrder order;
    order.asked = sample_uniform(federation.clients, clients_to_ask(federation), job_.job.seed, round);
    order.probes = state_.controller.probes(round, order.asked.size());
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
    task.broadcast = sha256(std::span<const float>(next_));
    return task;
}

void Server::finish(RoundOutcome outcome) {
    RoundRecord record = begin_record(outcome);
    if (record.committed) {
        if (std::string problem = advance_model(record); !problem.empty()) {
            record.committed = false;
            outcome.diverged = true;
            outcome.reason = std::move(problem);
        }
    }
    average_models(record);
    conclude(record, outcome);
    const bool can_go_on = record.committed || react_to_abandoned(record, outcome);
    const auto now = setup_.now();
    record.seconds = std::chrono::duration<double>(now - std::exchange(mark_, now)).count();
    if (!can_go_on)
        give_up(record, outcome.reason);
    keep(record, outcome);
}

RoundRecord Server::begin_record(RoundOutcome& outcome) const {
    RoundRecord record;
    record.round = state_.round + 1;
    record.committed = outcome.end == RoundOutcome::End::closed;
    record.participants = static_cast<std::uint32_t>(outcome.reports.size());
    record.dropped = outcome.dropped;
    record.rejected = outcome.rejected;
    record.plan = state_.controller.plan();
    record.layers = combine(outcome.reports, model_->schema().layer_count());
    if (!outcome.reports.empty()) {
        record.train_loss = mean_train_loss(outcome.reports);
        record.grad_norm = total_gradient_norm(record.layers);
        count_work(record, outcome);
    }
    return record;
}

void Server::count_work(RoundRecord& record, const RoundOutcome& outcome) const {
    std::uint64_t steps = 0;
    double probe = 0;
    for (const WeightedReport& report : outcome.reports) {
        record.samples += report.report.samples * job_.train.epochs;
        steps += report.report.steps;
        const auto batch = std::min<std::uint64_t>(report.report.samples, job_.train.batch_size);
        probe += probe_bit_ops(model_->schema(), report.probe, batch);
    }
    record.bit_ops = count_bit_ops(model_->schema(), record.plan, record.samples, steps);
    record.bit_ops.probe = probe;
}

std::string Server::advance_model(RoundRecord& record) {
    const std::span<float> parameters = model_->parameters();
    const std::vector<float> memory = state_.strategy->state();
    runner_.mean(mean_);
    std::copy(parameters.begin(), parameters.end(), next_.begin());
    state_.strategy->apply(mean_, next_);
    std::string problem = state_.controller.problem_of(next_);
    if (problem.empty()) {
        std::swap_ranges(parameters.begin(), parameters.end(), next_.begin());
        problem = evaluate_if_due(record);
        if (!problem.empty())
            std::swap_ranges(parameters.begin(), parameters.end(), next_.begin());
    }
    if (problem.empty())
        return {};
    state_.strategy->restore(memory);
    return "the averaged model diverged: " + problem;
}

bool Server::evaluation_is_due(const RoundRecord& record) const {
    const bool due = record.round % job_.job.evaluate_every == 0 || record.round == job_.job.rounds;
    return due && setup_.test.size() > 0;
}

Score Server::evaluate_model(const RoundRecord& record) {
    return evaluate(*model_, *loss_, setup_.test, &record.plan,
                    {.seed = job_.job.seed, .purpose = Purpose::evaluation, .round = record.round});
}

void Server::average_models(RoundRecord& record) {
    const std::uint32_t start = job_.train.swa_start;
    if (start == 0 || record.round < start)
        return;
    if (record.committed)
        state_.average.add(std::as_const(*model_).parameters());
    if (state_.average.rounds() > 0 && evaluation_is_due(record))
        evaluate_average(record);
}

void Server::evaluate_average(RoundRecord& record) {
    const std::span<float> parameters = model_->parameters();
    std::ranges::copy(parameters, next_.begin());
    std::ranges::copy(state_.average.model(), parameters.begin());
    try {
        const Score score = evaluate_model(record);
        record.swa_loss = score.mean_loss();
        if (setup_.test.classes() > 0)
            record.swa_accuracy = score.accuracy();
    } catch (const TrainingError& e) {
        record.reason.push_back(fmt::format("the average of the models cannot be evaluated: {}", e.what()));
    }
    std::ranges::copy(next_, parameters.begin());
}

std::string Server::evaluate_if_due(RoundRecord& record) {
    if (!evaluation_is_due(record))
        return {};
    try {
        const Score score = evaluate_model(record);
        record.test_loss = score.mean_loss();
        if (setup_.test.classes() > 0)
            record.test_accuracy = score.accuracy();
        return {};
    } catch (const TrainingError& e) {
        return e.what();
    }
}

void Server::conclude(RoundRecord& record, const RoundOutcome& outcome) {
    record.model = model_hash();
    record.bytes_up = outcome.bytes_up;
    record.bytes_down = outcome.bytes_down;
    if (record.committed) {
        record.bytes_down += runner_.commit_bytes(record.model);
        state_.abandoned_in_a_row = 0;
        add_reasons(record, state_.controller.learn(record.round, *record.train_loss, record.layers));
    } else if (const std::string problem = evaluate_if_due(record); !problem.empty()) {
        record.reason.push_back("the model before cannot be evaluated: " + problem);
    }
}

bool Server::react_to_abandoned(RoundRecord& record, const RoundOutcome& outcome) {
    record.reason.push_back(outcome.reason);
    const bool too_often = ++state_.abandoned_in_a_row >= kAbandonedInARow;
    if (!outcome.diverged)
        return !too_often;
    const auto changes = state_.controller.alarm(record.round, outcome.reason);
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
    state_.evaluated_plan = record.plan;
    state_.log_line = to_json_line(record, model_->schema());
    // Durable before anyone is told: a node may forget its update once it hears of the commit.
    save();
    if (record.committed)
        runner_.commit(record.model);
    setup_.folder.append_round(state_.log_line);
    if (setup_.progress)
        setup_.progress({record.round, record.participants, job_.federation.cohort, &record});
}

void Server::save() {
    save_checkpoint(setup_.folder.checkpoint_file(), state_.checkpoint());
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
