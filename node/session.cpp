#include "node/session.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <vector>

#include "core/config.hpp"
#include "core/data/partition.hpp"
#include "core/error.hpp"
#include "core/noise/profiler.hpp"
#include "node/error_feedback.hpp"
#include "node/trainer.hpp"
#include "transport/codec.hpp"
#include "transport/held_model.hpp"

namespace dither {
namespace {

/// Everything that the job decides; made when it arrives.
class Workshop {
public:
    Workshop(const std::string& job, const SessionSetup& setup)
        : client_(setup.client),
          widths_(setup.device.widths),
          job_(parse_job(job, "the aggregator's job")),
          loaded_(setup.data == nullptr ? std::optional(load(job_, setup)) : std::nullopt),
          data_(setup.data == nullptr ? loaded_->train : *setup.data),
          partition_(deal(setup)),
          backend_(make_backend(job_.compute)),
          trainer_(job_, data_, *backend_),
          uplink_(make_codec(job_.codec.uplink, trainer_.schema())),
          model_(job_, trainer_.schema(), [this](std::span<float> model) { trainer_.write_initial_model(model); }),
          update_(trainer_.schema().parameters()) {
        if (feeds_back(job_.codec.uplink, *uplink_))
            feedback_.emplace(*uplink_, ResidualStore(state_folder(setup), update_.size()), update_.size());
        if (partition_)
            check_calibration(job_.noise, *partition_);
        else
            check_calibration(job_.noise, client_, data_.size());
    }

    /// Samples a second of the last training; 0: none yet, or too short to tell.
    float speed() const { return speed_; }

    /// Throws TrainingError when training diverges, and others when the task cannot be done: one client's failure.
    Update carry_out(const RoundPlan& plan) {
        check(plan);
        if (feedback_)
            feedback_->begin(plan);
        model_.receive(plan);
        const std::span<const std::uint32_t> samples = samples_of(plan.client);
        if (samples.empty())
            throw FormatError(fmt::format("client {} has no training samples", plan.client));
        const TrainingTask task{.client = plan.client, .round = plan.round, .plan = &plan.plan, .probe = plan.probe};
        Update update{.round = plan.round, .client = plan.client, .base = plan.broadcast};
        update.report = trainer_.train(task, samples, model_.values(), update_);
        note_speed(update.report);
        const StreamKey key{
            .seed = job_.job.seed, .purpose = Purpose::uplink_rounding, .client = plan.client, .round = plan.round};
        const Terms terms{.steps = plan.uplink_steps, .key = key, .expectation = model_.expectation()};
        if (feedback_)
            feedback_->encode(update_, terms, update.payload);
        else
            uplink_->encode(update_, terms, update.payload);
        return update;
    }

private:
    static DataSplits load(const Job& job, const SessionSetup& setup) {
        DataOptions options = job.data;
        if (!setup.data_path.empty())
            options.path = setup.data_path;
        return load_data(options, job.job.seed);
    }

    std::filesystem::path state_folder(const SessionSetup& setup) const {
        if (!setup.state.empty())
            return setup.state;
        if (setup.client != kAnyClient)
            throw InputError(
                fmt::format("client {} needs a folder for its state, since codec.uplink, {}, works with "
                            "error feedback",
                            setup.client, uplink_->name()));
        return std::filesystem::path(job_.output.dir) / "clients";
    }

    /// A node that speaks for one client owns all of its data; only a simulation deals one data set to many.
    std::optional<Partition> deal(const SessionSetup& setup) const {
        if (setup.client != kAnyClient)
            return std::nullopt;
        return make_partition(job_.federation.partition, job_.federation.clients, data_.size(), data_.labels(),
                              data_.classes(), job_.job.seed);
    }

    std::span<const std::uint32_t> samples_of(std::uint32_t client) {
        if (partition_)
            return partition_->of(client);
        if (all_.empty())
            for (std::uint32_t i = 0; i < data_.size(); ++i)
                all_.push_back(i);
        return all_;
    }

    void note_speed(const TrainingReport& report) {
        const auto trained = static_cast<double>(report.samples) * job_.train.epochs;
        const auto speed = static_cast<float>(trained / static_cast<double>(report.seconds));
        if (std::isfinite(speed))
            speed_ = speed;
    }

    /// The aggregator was told what this node executes.
    void check_widths(const RoundPlan& plan) const {
        for (std::size_t i = 0; i < plan.plan.layers.size() && !widths_.empty(); ++i)
            for (const Phase phase : {Phase::forward, Phase::backward, Phase::optimizer})
                if (const int bits = plan.plan.layers[i][phase]; std::ranges::find(widths_, bits) == widths_.end())
                    throw FormatError(fmt::format("round {}: layer {} {} at {} bits, this node executes {}", plan.round,
                                                  trainer_.schema().layers()[i].name, name_of(phase), bits,
                                                  fmt::join(widths_, ", ")));
    }

    void check(const RoundPlan& plan) const {
        const std::size_t layers = trainer_.schema().layer_count();
        if (plan.plan.layers.size() != layers || plan.uplink_steps.size() != layers)
            throw FormatError(fmt::format("round {}: a plan for {} layers and {} grid steps, but the model has {}",
                                          plan.round, plan.plan.layers.size(), plan.uplink_steps.size(), layers));
        check_widths(plan);
        if (client_ != kAnyClient && plan.client != client_)
            throw FormatError(fmt::format("a plan for client {}, but this node speaks for {}", plan.client, client_));
        if (partition_ && plan.client >= partition_->clients())
            throw FormatError(fmt::format("client {} of {}", plan.client, partition_->clients()));
    }

    std::uint32_t client_;     ///< that it speaks for
    std::vector<int> widths_;  ///< that it executes; empty: all
    Job job_;
    std::optional<DataSplits> loaded_;
    const Dataset& data_;
    std::optional<Partition> partition_;
    std::unique_ptr<Backend> backend_;
    Trainer trainer_;
    std::unique_ptr<Codec> uplink_;
    std::optional<ErrorFeedback> feedback_;
    HeldModel model_;
    std::vector<float> update_;
    std::vector<std::uint32_t> all_;
    float speed_ = 0;
};

/// Whatever a task does, it ends as one client's failure: a worker that died of it would take it to the next one.
Message outcome_of(Workshop& workshop, const RoundPlan& plan) {
    Failed failed{.round = plan.round, .client = plan.client};
    try {
        return workshop.carry_out(plan);
    } catch (const TrainingError& error) {
        failed.diverged = true;
        failed.reason = error.what();
    } catch (const ModelMissing& error) {
        failed.needs_model = true;
        failed.reason = error.what();
    } catch (const std::exception& error) {
        failed.reason = error.what();
    }
    return failed;
}

/// An update that every reader would refuse is a failure, too. Only a channel that fails ends the session.
void answer(Channel& channel, Workshop& workshop, const RoundPlan& plan) {
    try {
        channel.send(outcome_of(workshop, plan));
    } catch (const PreconditionError& error) {
        channel.send(Failed{.round = plan.round, .client = plan.client, .reason = error.what()});
    }
}

}  // namespace

Device run_session(Channel& channel, const SessionSetup& setup) {
    require(setup.client == kAnyClient || setup.data != nullptr || !setup.data_path.empty(),
            "client {} needs data of its own", setup.client);
    channel.send(Hello{.node = setup.node, .client = setup.client, .device = setup.device});
    std::optional<Workshop> workshop;
    while (const std::optional<Message> message = channel.receive()) {
        if (const auto* welcome = std::get_if<Welcome>(&*message)) {
            workshop.emplace(welcome->job, setup);
        } else if (const auto* plan = std::get_if<RoundPlan>(&*message)) {
            if (!workshop)
                throw FormatError("the aggregator sent a round plan before its welcome");
            answer(channel, *workshop, *plan);
        } else if (std::holds_alternative<Stop>(*message)) {
            break;
        }
        // UpdateAck and RoundCommitted need no answer: a session that ends loses no more than its unsent work, and the
        // aggregator asks again.
    }
    Device device = setup.device;
    if (workshop && workshop->speed() > 0)
        device.speed = workshop->speed();
    return device;
}

}  // namespace dither
