#include "node/detail/workshop.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/error.hpp"
#include "core/noise/profiler.hpp"
#include "core/optim/local_progress.hpp"
#include "node/encoding_loss.hpp"

namespace dither::detail {

Workshop::Workshop(const std::string& job, std::uint32_t client, const SessionSetup& setup)
    : client_(client),
      widths_(setup.device.widths),
      job_(parse_job(job, "the aggregator's job")),
      loaded_(setup.data == nullptr ? std::optional(load(setup)) : std::nullopt),
      data_(setup.data == nullptr ? *loaded_ : *setup.data),
      partition_(deal()),
      backend_(make_backend(job_.compute)),
      trainer_(job_, data_, *backend_, setup.makers),
      uplink_(setup.makers.codec(job_.codec.uplink, trainer_.schema())),
      model_(
          job_, trainer_.schema(), [this](std::span<float> model) { trainer_.write_initial_model(model); },
          setup.makers),
      update_(trainer_.schema().parameters()) {
    if (feeds_back(job_.codec.uplink, *uplink_))
        feedback_.emplace(*uplink_,
                          ResidualStore(state_folder(setup, fmt::format("codec.uplink, {}, works with error feedback",
                                                                        uplink_->name())),
                                        update_.size()),
                          update_.size());
    if (corrects_steps(job_.federation.strategy))
        control_.emplace(
            job_,
            ResidualStore(state_folder(setup, "federation.strategy, scaffold, keeps a control variate") / "controls",
                          update_.size()),
            trainer_.schema());
    if (partition_ && job_.federation.attack.kind == "label_flip")
        label_flippers_.emplace(job_.federation, job_.job.seed);
    if (partition_)
        check_calibration(job_.noise, *partition_, job_.federation.holdout);
    else
        check_calibration(job_.noise, client_, trained_count(data_.size(), job_.federation.holdout));
}

Update Workshop::carry_out(const RoundPlan& plan) {
    check(plan);
    if (feedback_)
        feedback_->begin(plan);
    if (control_)
        control_->begin(plan);
    model_.receive(plan);
    const LocalSamples samples = samples_of(plan.client);
    if (samples.trained.empty())
        throw FormatError(fmt::format("client {} has no training samples", plan.client));
    const TrainingTask task{.client = plan.client,
                            .round = plan.round,
                            .plan = &plan.plan,
                            .probe = plan.probe,
                            .flips_labels = label_flippers_ && label_flippers_->contains(plan.client),
                            .held_out = samples.held_out,
                            .control = model_.control(),
                            .own_control = control_ ? control_->own() : std::span<const float>()};
    Update update{.round = plan.round, .client = plan.client, .base = plan.broadcast};
    update.report = trainer_.train(task, samples.trained, model_.values(), update_);
    note_speed(update.report);
    if (control_)
        control_->keep(model_.control(), update_, update.report.steps);
    update.payload = encode(plan, update.report);
    return update;
}

std::vector<std::byte> Workshop::encode(const RoundPlan& plan, TrainingReport& report) {
    const StreamKey key{
        .seed = job_.job.seed, .purpose = Purpose::uplink_rounding, .client = plan.client, .round = plan.round};
    const Terms terms{.steps = plan.uplink_steps, .key = key, .expectation = model_.expectation()};
    std::vector<std::byte> payload;
    std::span<const float> lost;
    if (feedback_)
        lost = feedback_->encode(update_, terms, payload);
    else
        uplink_->encode(update_, terms, payload);
    if (job_.codec.measure_uplink)
        report_loss(trainer_.schema(), update_, feedback_ ? lost : loss(payload, terms), report);
    return payload;
}

std::span<const float> Workshop::loss(std::span<const std::byte> payload, const Terms& terms) {
    lost_.resize(update_.size());
    find_loss(*uplink_, update_, payload, terms, lost_);
    return lost_;
}

/// Nothing of the test split remains in memory: only the aggregator evaluates.
Dataset Workshop::load(const SessionSetup& setup) const {
    Job job = job_;
    if (!setup.data_path.empty())
        job.data.path = setup.data_path;
    return client_ == kAnyClient ? setup.makers.data(job).train : load_data(job.data, job.job.seed).train;
}

std::optional<Partition> Workshop::deal() const {
    if (client_ != kAnyClient)
        return std::nullopt;
    return make_partition(job_.federation.partition, job_.federation.clients, data_, job_.job.seed);
}

std::filesystem::path Workshop::state_folder(const SessionSetup& setup, const std::string& need) const {
    if (!setup.state.empty())
        return setup.state;
    if (client_ != kAnyClient)
        throw InputError(fmt::format("client {} needs a folder for its state, since {}", client_, need));
    return std::filesystem::path(job_.output.dir) / "clients";
}

LocalSamples Workshop::samples_of(std::uint32_t client) const {
    std::vector<std::uint32_t> own;
    if (partition_) {
        own = partition_->of(client);
    } else {
        own.resize(data_.size());
        std::iota(own.begin(), own.end(), 0U);
    }
    return hold_out(std::move(own), job_.federation.holdout, job_.job.seed, client);
}

void Workshop::note_speed(const TrainingReport& report) {
    const auto trained = static_cast<double>(report.samples) * job_.train.epochs;
    const auto speed = static_cast<float>(trained / static_cast<double>(report.seconds));
    if (std::isfinite(speed))
        speed_ = speed;
}

void Workshop::check_widths(const RoundPlan& plan) const {
    for (std::size_t i = 0; i < plan.plan.layers.size() && !widths_.empty(); ++i)
        for (const Phase phase : {Phase::forward, Phase::backward, Phase::optimizer})
            if (const int bits = plan.plan.layers[i][phase]; std::ranges::find(widths_, bits) == widths_.end())
                throw FormatError(fmt::format("round {}: layer {} {} at {} bits, this node executes {}", plan.round,
                                              trainer_.schema().layers()[i].name, name_of(phase), bits,
                                              fmt::join(widths_, ", ")));
}

void Workshop::check(const RoundPlan& plan) const {
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

}  // namespace dither::detail
