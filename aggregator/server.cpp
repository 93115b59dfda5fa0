#include "aggregator/server.hpp"

#include "aggregator/checkpoint.hpp"
#include "aggregator/detail/broadcast.hpp"
#include "aggregator/detail/change_encoder.hpp"
#include "aggregator/detail/convener.hpp"
#include "aggregator/detail/evaluator.hpp"
#include "aggregator/detail/round_account.hpp"
#include "aggregator/detail/round_runner.hpp"
#include "aggregator/detail/run_state.hpp"
#include "core/error.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

namespace dither {

namespace {

constexpr std::uint32_t kAbandonedInARow = 3;
constexpr std::chrono::seconds kFarewell{60};

void add_changes(RoundRecord& record, std::span<const PlanChange> changes) {
    record.changes.insert(record.changes.end(), changes.begin(), changes.end());
}

/// The run itself: between the rounds, the model and the disk.
class Server {
public:
    explicit Server(const ServerSetup& setup);
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    /// Before run(): restores or saves the state, and writes the resolved job.
    void open_folder(bool resume);
    RunResult run();

private:
    RoundOrder order(std::uint32_t round);

    /// Ends a round that was closed or abandoned: model, plan, disk, peers.
    void finish(RoundOutcome outcome);
    RoundRecord begin_record(RoundOutcome& outcome) const;
    /// Commits the round unless its training loss or the next model forbids it: then it has diverged, with a reason.
    void try_to_commit(RoundRecord& record, RoundOutcome& outcome);
    /// To the last model that a later round has shown to be sound; false if that is the one at hand.
    bool roll_back(RoundRecord& record);
    /// model <- strategy(mean), evaluated if that is due. Returns why that model cannot be kept, and the model is then
    /// as it was; empty if it can.
    std::string advance_model(RoundRecord& record, std::span<WeightedReport> reports);
    /// change_ <- what takes nodes from the model to `next`, which is then what they will hold. Returns why it cannot
    /// be broadcast; empty if it can.
    std::string encode_change(std::uint32_t round, std::span<const WeightedReport> reports, std::span<float> next);
    /// What the round's end means for those who follow the model by its changes.
    void remember_change(const RoundRecord& record, bool rolled_back);
    /// The clients whose updates were counted hold this round's model.
    void count_clients(const RoundRecord& record, const RoundOutcome& outcome);
    /// SWA: a committed model enters the average, which is evaluated if that is due. The model is as it was afterwards.
    void average_models(RoundRecord& record);
    RoundEvidence evidence(const RoundRecord& record, const RoundOutcome& outcome);
    void conclude(RoundRecord& record, const RoundOutcome& outcome);
    /// The controller's answer to a round that could not be used; false if nothing is left to try.
    bool react_to_abandoned(RoundRecord& record, const RoundOutcome& outcome, bool rolled_back);
    [[noreturn]] void give_up(const RoundRecord& record, const std::string& reason);
    /// The grids and the broadcast of the next round.
    void prepare_broadcast(RoundRecord& record);
    /// Totals, checkpoint, peers, log, in the order that loses nothing.
    void keep(const RoundRecord& record, const RoundOutcome& outcome);
    void save();

    /// A model's worth of memory, between rounds.
    std::span<float> scratch() { return runner_.scratch(); }
    Sha256 model_hash() const { return sha256(std::as_const(*model_).parameters()); }
    RunResult result(bool interrupted);

    const ServerSetup& setup_;
    const Job& job_;
    std::unique_ptr<Model> model_;
    Evaluator evaluator_;
    RunState state_;
    Broadcast broadcast_;
    std::optional<ChangeEncoder> change_encoder_;  ///< where changes are broadcast
    ModelPart change_;                             ///< that the running round makes
    RoundRunner runner_;
    Convener convener_;
    std::vector<double> mean_rms_;  ///< tensor_rms of the mean update
    Clock::time_point mark_;        ///< when the seconds of the running round began
    bool is_complete_ = false;
    std::string farewell_ = "the run failed";
};

Server::Server(const ServerSetup& setup)
    : setup_(setup),
      job_(setup.job),
      model_(setup.makers.shared.model(job_.model, job_.quantize, setup.input, setup.backend)),
      evaluator_(job_, setup.test),
      state_(job_, *model_, setup.makers),
      broadcast_(job_, model_->schema(), state_.history, state_.counted, *state_.strategy, setup.makers.shared),
      runner_(setup, model_->schema(), *state_.strategy),
      convener_(job_, setup.samples_of, broadcast_, state_) {
    require(setup.journal == nullptr || !convener_.is_timed(), "a journal is for rounds in real time");
    if (broadcast_.sends_changes())
        change_encoder_.emplace(job_, model_->schema(), setup_.makers.shared);
}

Server::~Server() {
    // Peers that return come back to a run that goes on.
    if (is_complete_ || !setup_.hub.peers_return())
        runner_.dismiss(farewell_);
}

void Server::open_folder(bool resume) {
    RunFolder& folder = setup_.folder;
    if (resume) {
        state_.good = {};  // the checkpoint brings its own, which can be as large as two models
        state_.restore(folder.load(), folder.checkpoint_file());
        convener_.resume();
    }
    folder.storage().replace(RunFolder::kJob, to_toml(job_));
    if (!resume)
        save();  // so that an early interrupt can be resumed, too
    const std::uint32_t logged = folder.open_log(state_.round);
    if (logged < state_.round)
        folder.append_round(state_.log_line);  // the last run died between its checkpoint and its log
}

RunResult Server::run() {
    // Where peers return, a run that goes on does not wait for those that have gone for good: each round sees to its
    // quorum.
    const bool gathers = state_.round == 0 || !setup_.hub.peers_return();
    if (state_.round < job_.job.rounds && gathers && !runner_.gather_peers(setup_.peers))
        return result(true);
    mark_ = setup_.now();
    while (state_.round < job_.job.rounds) {
        RoundOutcome outcome = runner_.run(order(state_.round + 1));
        if (outcome.end == RoundOutcome::End::interrupted)
            return result(true);
        finish(std::move(outcome));
    }
    setup_.folder.storage().replace(RunFolder::kSummary, to_summary_json(job_, state_.totals, model_hash(),
                                                                         setup_.place, state_.device_bytes.values()));
    if (setup_.registry != nullptr && setup_.hub.peers_return())  // whoever is away for a moment must hear it, too
        runner_.gather_peers(setup_.registry->size(),
                             setup_.now() + std::min<Clock::duration>(job_.federation.rejoin, kFarewell));
    return result(false);
}

RunResult Server::result(bool interrupted) {
    is_complete_ = !interrupted;
    farewell_ = interrupted ? "the run was interrupted" : std::string(kRunComplete);
    return {.totals = state_.totals, .model = model_hash(), .interrupted = interrupted};
}

RoundOrder Server::order(std::uint32_t round) {
    if (broadcast_.round() != round)  // the run has just begun, or begun again
        broadcast_.prepare(round, convener_.clients(round), std::as_const(*model_).parameters(),
                           state_.controller.plan(), state_.controller, scratch());
    const Attendance& attendance = convener_.convene(round);
    RoundOrder order;
    order.clients = attendance;
    for (const std::uint32_t client : attendance.trained)
        order.counted.push_back(state_.counted[client]);
    order.probes = state_.controller.probes(round, attendance.trained.size());
    if (job_.federation.holdout > 0 && is_evaluated(job_.job, round))
        for (Probe& probe : order.probes)
            probe = probe | Probe::held_out;
    order.rules = rules_of(job_.federation);
    order.bound = state_.bound;
    if (!convener_.is_timed())
        order.deadline = job_.federation.deadline;
    order.task = broadcast_.take_task();
    order.broadcast = &broadcast_;
    return order;
}

void Server::finish(RoundOutcome outcome) {
    const double simulated_seconds = convener_.close(outcome);
    RoundRecord record = begin_record(outcome);
    record.simulated_seconds = simulated_seconds;
    if (record.committed)
        try_to_commit(record, outcome);
    const bool rolled_back = outcome.diverged && roll_back(record);
    if (outcome.diverged) {  // what trains on that model and plan says nothing of the next round's
        convener_.forget();
        runner_.forget_early();
    }
    remember_change(record, rolled_back);
    count_clients(record, outcome);
    average_models(record);
    conclude(record, outcome);
    const bool can_go_on = record.committed || react_to_abandoned(record, outcome, rolled_back);
    if (can_go_on)
        prepare_broadcast(record);
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
    record.dropped = outcome.dropped;
    record.rejected = outcome.rejected;
    record.bytes_up = outcome.bytes_up;
    record.bytes_down = outcome.bytes_down;
    record.whole_models = outcome.whole_models;
    record.plan = state_.controller.plan();
    account(job_, *model_, outcome.reports, record);
    return record;
}

void Server::try_to_commit(RoundRecord& record, RoundOutcome& outcome) {
    std::string problem = state_.controller.judge(*record.train_loss);
    outcome.refused = !problem.empty();
    if (problem.empty()) {
        state_.model_is_good();
        problem = advance_model(record, outcome.reports);
    }
    if (problem.empty())
        return;
    record.committed = false;
    outcome.diverged = true;
    outcome.reason = std::move(problem);
}

bool Server::roll_back(RoundRecord& record) {
    const std::uint32_t left = state_.model_round;
    const auto round = state_.roll_back();
    if (round)
        record.reason.push_back(fmt::format("the model of round {} is given up for that of round {}", left, *round));
    return round.has_value();
}

std::string Server::advance_model(RoundRecord& record, std::span<WeightedReport> reports) {
    const std::span<float> parameters = model_->parameters();
    const std::span<const float> kept = state_.strategy->state();
    const std::vector<float> memory(kept.begin(), kept.end());
    const std::span<float> next = runner_.mean(reports);
    record.clipped = static_cast<std::uint32_t>(std::ranges::count_if(
        reports, [&](const WeightedReport& report) { return report.update_norm > state_.bound.largest(); }));
    mean_rms_ = tensor_rms(model_->schema(), next);
    state_.strategy->apply(parameters, next, contributions(reports));
    std::string problem = state_.controller.problem_of(next);
    if (problem.empty() && change_encoder_)
        problem = encode_change(record.round + 1, reports, next);
    if (problem.empty()) {
        std::ranges::swap_ranges(parameters, next);
        problem = evaluator_.evaluate_if_due(*model_, record);
        if (!problem.empty())
            std::ranges::swap_ranges(parameters, next);
    }
    if (problem.empty()) {
        state_.model_round = record.round;
        return {};
    }
    state_.strategy->restore(memory);
    return "the averaged model diverged: " + problem;
}

std::string Server::encode_change(std::uint32_t round, std::span<const WeightedReport> reports, std::span<float> next) {
    const std::span<const float> model = std::as_const(*model_).parameters();
    try {
        change_ =
            change_encoder_->encode(round, model, next, state_.residual,
                                    broadcast_.most_change_bytes(convener_.clients(round), reports), state_.controller);
    } catch (const TrainingError& error) {
        return error.what();
    }
    change_.control = state_.strategy->follow(next);
    std::ranges::transform(model, next, next.begin(), std::plus<>());
    const bool finite = all_finite(next) && all_finite(state_.strategy->control());
    return finite ? "" : "what nodes would decode of it is not finite";
}

void Server::remember_change(const RoundRecord& record, bool rolled_back) {
    if (!change_encoder_)
        return;
    const std::uint32_t next = record.round + 1;
    if (rolled_back) {
        state_.history.restart(next);
        state_.residual.clear();
        return;
    }
    if (record.committed) {
        change_encoder_->keep_residual(state_.residual);
        state_.controller.learn_delta(static_cast<double>(change_.payload.size()));
    }
    const std::uint64_t whole_model = sizeof(float) * model_->schema().parameters();
    state_.history.push(record.committed ? std::move(change_) : ModelPart{.round = next}, whole_model);
}

void Server::count_clients(const RoundRecord& record, const RoundOutcome& outcome) {
    if (!record.committed)
        return;
    state_.bound.learn(outcome.reports);
    std::vector<PerClient<std::uint32_t>::Entry> counted;
    for (const WeightedReport& report : outcome.reports)
        counted.emplace_back(report.client, report.round);
    state_.counted.put(std::move(counted));
}

void Server::average_models(RoundRecord& record) {
    const std::uint32_t start = job_.train.swa_start;
    if (start == 0 || record.round < start)
        return;
    if (record.committed)
        state_.average.add(std::as_const(*model_).parameters());
    if (state_.average.rounds() > 0)
        evaluator_.evaluate_average_if_due(*model_, state_.average.model(), record, scratch());
}

void Server::conclude(RoundRecord& record, const RoundOutcome& outcome) {
    record.model = model_hash();
    if (record.committed) {
        record.bytes_down += runner_.commit_bytes(record.model);
        state_.abandoned_in_a_row = 0;
        add_changes(record, state_.controller.learn(evidence(record, outcome)));
    } else if (const std::string problem = evaluator_.evaluate_if_due(*model_, record); !problem.empty()) {
        record.reason.push_back("the model before cannot be evaluated: " + problem);
    }
}

bool Server::react_to_abandoned(RoundRecord& record, const RoundOutcome& outcome, bool rolled_back) {
    record.reason.push_back(outcome.reason);
    if (!outcome.diverged && outcome.absent)  // the next round waits for its quorum
        return true;
    const bool too_often = ++state_.abandoned_in_a_row >= kAbandonedInARow;
    if (!outcome.diverged)
        return !too_often;
    const auto changes = state_.controller.alarm(record.round, outcome.reason);
    add_changes(record, changes);
    return !too_often && (rolled_back || !changes.empty() || outcome.refused);
}

RoundEvidence Server::evidence(const RoundRecord& record, const RoundOutcome& outcome) {
    return {.round = record.round,
            .train_loss = *record.train_loss,
            .layers = record.layers,
            .mean_rms = mean_rms_,
            .clients = record.participants,
            .update_bytes = combine_payload_bytes(outcome.reports, combination_of(job_.precision.combine))};
}

void Server::prepare_broadcast(RoundRecord& record) {
    const std::uint32_t next = record.round + 1;
    const GridChoice choice = broadcast_.prepare(next, convener_.clients(next), std::as_const(*model_).parameters(),
                                                 record.plan, state_.controller, scratch());
    add_changes(record, choice.changes);
    if (!choice.budget.empty())
        record.reason.push_back(choice.budget);
}

void Server::give_up(const RoundRecord& record, const std::string& reason) {
    setup_.folder.append_round(to_json_line(record, model_->schema()));
    throw TrainingError(fmt::format("round {} was abandoned and nothing is left to try: {}", record.round, reason));
}

void Server::keep(const RoundRecord& record, const RoundOutcome& outcome) {
    const std::uint64_t parameters = model_->schema().parameters();
    state_.totals.add(record, record.participants * parameters, outcome.sent_models * parameters);
    state_.totals.simulated_seconds = convener_.seconds();
    state_.round = record.round;
    state_.evaluated_plan = record.plan;
    state_.log_line = to_json_line(record, model_->schema());
    // Durable before anyone is told: a node may forget its update once it hears of the commit.
    save();
    if (record.committed)
        runner_.commit(record.model);
    setup_.folder.append_round(state_.log_line);
    if (setup_.progress)
        setup_.progress({.round = record.round,
                         .arrived = record.participants,
                         .cohort = job_.federation.cohort,
                         .ended = &record,
                         .schema = &model_->schema()});
}

void Server::save() {
    setup_.folder.save(state_.checkpoint());
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
