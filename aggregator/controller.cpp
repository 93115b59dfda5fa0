#include "aggregator/controller.hpp"

#include "aggregator/detail/state_reader.hpp"
#include "aggregator/sampling.hpp"
#include "core/error.hpp"
#include "core/optim/schedule.hpp"

#include <algorithm>
#include <cmath>

namespace dither {

namespace {

constexpr std::uint32_t kProbeLane = 1;  // of the sampling stream: 0 draws the clients of the round

bool has_probed(const LayerStatistics& s) {
    return std::ranges::any_of(std::array{s.curvature, s.curvature_norm, s.forward_sensitivity, s.backward_sensitivity},
                               [](float value) { return value >= 0; });
}

bool same_place(const PlanChange& a, const PlanChange& b) {
    return a.layer == b.layer && a.phase == b.phase;
}

/// One change for each place, the last one's reason; none where a place is back at what ran.
void keep_net_changes(const PrecisionPlan& ran, std::vector<PlanChange>& changes) {
    std::vector<PlanChange> net;
    for (auto change = changes.begin(); change != changes.end(); ++change) {
        const bool superseded =
            std::any_of(change + 1, changes.end(), [&](const PlanChange& later) { return same_place(later, *change); });
        change->from = ran.layers[change->layer][change->phase];
        if (!superseded && change->from != change->to)
            net.push_back(std::move(*change));
    }
    changes = std::move(net);
}

}  // namespace

Controller::Controller(const Job& job, const Schema& schema, const ServerMakers& makers)
    : schema_(schema),
      options_(job.precision),
      schedule_(job.train.schedule),
      rounds_(job.job.rounds),
      levels_(job.precision.levels),
      policy_(makers.policy(job.precision, schema)),
      policy_rules_uplink_(policy_->rules_uplink() && job.codec.uplink.bits == 0),
      fixed_(job, schema),
      floors_(levels_, fixed_, schema.layer_count()),
      guard_(job.precision),
      links_(job, schema, policy_rules_uplink_, makers.shared),
      plan_(policy_->initial()),
      uplink_reasons_(schema.layer_count()),
      sensitivities_(schema.layer_count()),
      seed_(job.job.seed) {
    for (const LayerBits& bits : plan_.layers)
        ruled_uplink_.push_back(bits.uplink);
    std::vector<PlanChange> unsaid;
    fixed_.apply(plan_, unsaid);
    keep_bit_budget(rate_after(0), unsaid);
}

bool Controller::measurement_is_due(std::uint32_t round) const {
    const std::uint32_t every = std::max<std::uint32_t>(options_.curvature_every, 1);
    const std::uint32_t scheduled = round - (round - 1) % every;  // the last round that should have brought one
    return measured_in_ < scheduled;
}

/// The learning rate in the middle of the round that follows, as a share of its peak. A warm-up is no decay: what comes
/// before the peak counts as the peak.
double Controller::rate_after(std::uint32_t round) const {
    return learning_rate_factor(schedule_,
                                {.round = std::max(round + 0.5, schedule_.warmup_rounds), .rounds = rounds_});
}

Probe Controller::wanted_probe() const {
    return options_.bit_budget > 0 ? policy_->probe() | Probe::sensitivity : policy_->probe();
}

std::vector<Probe> Controller::probes(std::uint32_t round, std::size_t asked) const {
    std::vector<Probe> probes(asked, Probe::none);
    if (!measurement_is_due(round))
        return probes;
    const auto places = static_cast<std::uint32_t>(asked);
    const std::uint32_t count = std::min(options_.curvature_clients, places);
    for (const std::uint32_t place : sample_uniform(places, count, seed_, round, kProbeLane))
        probes[place] = wanted_probe();
    return probes;
}

void Controller::start(std::span<const float> model) {
    links_.start(model, plan_);
    links_.choose(model, 1, plan_);
}

std::vector<PlanChange> Controller::learn(const RoundEvidence& evidence) {
    require(evidence.layers.size() == schema_.layer_count(), "statistics of {} layers, expected {}",
            evidence.layers.size(), schema_.layer_count());
    if (std::ranges::any_of(evidence.layers, has_probed))
        measured_in_ = evidence.round;
    dither::learn(sensitivities_, evidence.layers, options_.smoothing);
    const PrecisionPlan ran = plan_;
    auto changes = ask_policy(evidence);
    fixed_.apply(plan_, changes);
    keep_bit_budget(rate_after(evidence.round), changes);
    floors_.committed();
    for (const std::size_t layer : guard_.saturated(evidence.layers))
        floors_.saturate(evidence.round, layer, evidence.layers[layer].saturation, ran.layers[layer].forward);
    floors_.hold(plan_, changes);
    keep_net_changes(ran, changes);
    links_.learn({.layers = evidence.layers,
                  .mean_rms = evidence.mean_rms,
                  .clients = evidence.clients,
                  .update_bytes = evidence.update_bytes},
                 plan_);
    for (std::size_t layer = 0; layer < plan_.layers.size(); ++layer)
        plan_.layers[layer].uplink = ran.layers[layer].uplink;  // until grids are chosen
    return changes;
}

std::vector<PlanChange> Controller::ask_policy(const RoundEvidence& evidence) {
    const PrecisionPlan ran = plan_;
    for (std::size_t layer = 0; layer < plan_.layers.size(); ++layer)
        if (policy_rules_uplink_)
            plan_.layers[layer].uplink = ruled_uplink_[layer];
    auto changes = policy_->update({.round = evidence.round,
                                    .train_loss = evidence.train_loss,
                                    .rate = rate_after(evidence.round),
                                    .layers = evidence.layers},
                                   plan_);
    for (std::size_t layer = 0; layer < plan_.layers.size(); ++layer) {
        LayerBits& bits = plan_.layers[layer];
        bits.downlink = ran.layers[layer].downlink;
        if (policy_rules_uplink_)
            ruled_uplink_[layer] = bits.uplink;
        else
            bits.uplink = ran.layers[layer].uplink;
        uplink_reasons_[layer].clear();
    }
    for (const PlanChange& change : changes)
        if (change.phase == Phase::uplink && policy_rules_uplink_)
            uplink_reasons_[change.layer] = change.reason;
    std::erase_if(changes, [](const PlanChange& change) {
        return change.phase == Phase::downlink || change.phase == Phase::uplink;
    });
    return changes;
}

void Controller::keep_bit_budget(double rate, std::vector<PlanChange>& changes) {
    if (options_.bit_budget == 0)
        return;
    const ErrorModel model(schema_, sensitivities_, rate);
    auto lowered = keep_within_budget(
        schema_, levels_, model, options_.bit_budget, plan_,
        [this](std::size_t layer, Phase phase, int bits) { return fixed_.bits(layer, phase, bits); });
    fixed_.apply(plan_, lowered);
    changes.insert(changes.end(), lowered.begin(), lowered.end());
}

void Controller::choose_grids(std::span<const float> model, double coarseness) {
    links_.choose(model, coarseness, plan_);
}

void Controller::choose_delta(std::span<const float> delta, double coarseness) {
    links_.choose_delta(delta, coarseness, plan_);
}

std::vector<PlanChange> Controller::link_changes(const PrecisionPlan& before) const {
    std::vector<PlanChange> changes = links_.changes(before, plan_);
    for (PlanChange& change : changes)
        if (const std::string& policy = uplink_reasons_[change.layer]; change.phase == Phase::uplink && !policy.empty())
            change.reason = fmt::format("{}: {}", policy, change.reason);
    return changes;
}

std::vector<PlanChange> Controller::alarm(std::uint32_t round, const std::string& reason) {
    uplink_reasons_.assign(uplink_reasons_.size(), {});  // of a round before
    return floors_.alarm(round, reason, plan_);
}

std::vector<double> Controller::links_state() const {
    std::vector<double> state;
    links_.append_state(state);
    return state;
}

void Controller::restore_links(std::span<const double> state) {
    StateReader reader(state);
    links_.restore(reader);
    require(reader.rest().empty(), "the links' state is {} numbers too long", reader.rest().size());
    uplink_reasons_.assign(uplink_reasons_.size(), {});
}

// Each layer: its five widths, the policy's uplink and four sensitivities; then links, floors, the guard's numbers,
// the round of the last measurement, and the policy's own state.
std::vector<double> Controller::state() const {
    std::vector<double> state;
    for (std::size_t layer = 0; layer < plan_.layers.size(); ++layer) {
        for (const Phase phase : kPhases)
            state.push_back(plan_.layers[layer][phase]);
        state.push_back(ruled_uplink_[layer]);
        const LayerSensitivity& known = sensitivities_[layer];
        state.insert(state.end(), {known.forward, known.backward, known.signal, known.gain});
    }
    links_.append_state(state);
    floors_.append_state(state);
    const std::vector<double> guard = guard_.state();
    state.push_back(static_cast<double>(guard.size()));
    state.insert(state.end(), guard.begin(), guard.end());
    state.push_back(measured_in_);
    const std::vector<double> policy = policy_->state();
    state.insert(state.end(), policy.begin(), policy.end());
    return state;
}

void Controller::restore(std::span<const double> state) {
    StateReader reader(state);
    for (std::size_t layer = 0; layer < plan_.layers.size(); ++layer) {
        for (const Phase phase : kPhases)
            plan_.layers[layer][phase] = reader.width();
        ruled_uplink_[layer] = reader.width();
        LayerSensitivity& known = sensitivities_[layer];
        for (double* value : {&known.forward, &known.backward, &known.signal, &known.gain})
            *value = reader.measured();
    }
    links_.restore(reader);
    floors_.restore(reader);
    const std::uint32_t numbers = reader.round();
    require(numbers <= 2, "the controller's state has a guard of {} numbers, expected at most 2", numbers);
    std::vector<double> guard(numbers);
    for (double& number : guard)
        number = reader.number();
    guard_.restore(guard);
    measured_in_ = reader.round();
    policy_->restore(reader.rest());
    uplink_reasons_.assign(uplink_reasons_.size(), {});
}

}  // namespace dither
