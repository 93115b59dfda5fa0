// b-bit codes are symmetric, -(2^(b-1) - 1) .. 2^(b-1) - 1, so that
//     step = range / (2^(b-1) - 1) = 2 range / (2^b - 2)
// covers [-range, range].
#include "aggregator/links.hpp"

#include "aggregator/detail/state_reader.hpp"
#include "core/error.hpp"
#include "core/vector_math.hpp"
#include "transport/codec.hpp"

#include <algorithm>
#include <cmath>

namespace dither {

namespace {

constexpr double kFirstUpdateShare = 0.05;  // RMS update / RMS weight, before anything was reported
constexpr double kFirstReach = 8;           // largest / RMS update, likewise: updates are heavy-tailed
constexpr float kFirstStep = 1e-4F;         // for a layer whose weights are all zero
constexpr int kAutoDownlinkBits = 8;        // whose mean noise the automatic downlink has
constexpr int kLeastAutoDownlinkBits = 6;
constexpr int kMostAutoDownlinkBits = kWidestCode;  // both at 8: 8 bits in every layer

// Independent updates are sqrt(clients) times as large as their mean. Reports beyond so many times that are not
// believed: a coarse grid proves little of its own values.
constexpr double kMostOverMean = 4;

bool is_measured(float value) {
    return value >= 0 && std::isfinite(value);
}

/// What a round showed of a layer, beside what was known.
void learn_spread(UpdateSpread& known, const LayerStatistics& measured) {
    if (is_measured(measured.update_range))
        known.range = measured.update_range;
    if (is_measured(measured.update_rms))
        known.rms = measured.update_rms;
}

/// The same from the RMS of each of the layer's tensors in the mean of `clients` updates. Clients move a tensor further
/// than their mean does: taken for as much as they move the layer further.
void learn_mean(UpdateSpread& known, const LayerSpec& layer, std::span<const double> mean_rms, std::uint32_t clients) {
    double squares = 0;
    for (std::size_t t = 0; t < mean_rms.size(); ++t)
        squares += static_cast<double>(layer.tensors[t].shape.count()) * mean_rms[t] * mean_rms[t];
    const double rms = std::sqrt(squares / static_cast<double>(std::max<std::size_t>(layer.count, 1)));
    if (rms > 0)
        known.rms = std::min(known.rms, kMostOverMean * std::sqrt(static_cast<double>(clients)) * rms);
    known.disagreement = disagreement_of(known.rms, rms, clients);
    known.least_rms = rms > 0 ? least_moved(mean_rms) * std::max(known.rms / rms, 1.0) : 0;
}

}  // namespace

Links::Links(const Job& job, const Schema& schema, bool policy_rules_uplink, const Makers& makers)
    : schema_(schema),
      codec_(job.codec),
      noise_share_(job.precision.uplink_noise),
      policy_rules_uplink_(policy_rules_uplink && job.codec.uplink.bits == 0),
      sends_deltas_(job.codec.downlink_of == "delta"),
      downlink_grid_(makers.codec(job.codec.downlink, schema)->needs_steps()),
      uplink_(job.codec.uplink, schema, makers),
      delta_(job.codec.downlink, schema, makers),
      averages_(job.federation.aggregation.kind == "mean"),
      clients_(job.federation.cohort),
      downlink_steps_(schema.layer_count(), 1.0F),
      downlink_ranges_(schema.layer_count()) {}

std::vector<int> Links::ruled_bits(const PrecisionPlan& plan) const {
    std::vector<int> bits;
    for (std::size_t layer = 0; layer < plan.layers.size() && policy_rules_uplink_; ++layer)
        bits.push_back(std::clamp(plan.layers[layer].uplink, kNarrowestCode, kWidestCode));
    return bits;
}

int Links::downlink_bits(std::size_t layer) const {
    if (is_wide(layer))
        return kWidestCode;
    return codec_.downlink.bits == 0 ? kAutoDownlinkBits : codec_.downlink.bits;
}

std::string Links::problem_of(std::span<const float> model) const {
    for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
        const float largest = max_magnitude(schema_.slice(model, layer));
        const std::string& name = schema_.layers()[layer].name;
        if (!std::isfinite(largest))
            return fmt::format("layer {} is not finite", name);
        if (const int bits = downlink_bits(layer);
            downlink_grid_ && !sends_deltas_ && grid_step(largest, bits) > kLargestGridStep)
            return fmt::format("layer {} reaches {}, beyond every grid of {} bits", name, largest, bits);
    }
    return {};
}

void Links::start(std::span<const float> model, const PrecisionPlan& plan) {
    std::vector<UpdateSpread> spread = spread_of(schema_, model);
    for (UpdateSpread& layer : spread) {
        layer.rms *= kFirstUpdateShare;
        layer.range = kFirstReach * layer.rms;
        layer.least_rms = -1;
    }
    uplink_.aim(std::move(spread), noise_share_, ruled_bits(plan));
}

void Links::learn(const UpdateEvidence& evidence, const PrecisionPlan& plan) {
    std::vector<UpdateSpread> spread = uplink_.spread();
    std::span<const double> mean_rms = evidence.mean_rms;
    for (std::size_t layer = 0; layer < spread.size(); ++layer) {
        const LayerSpec& spec = schema_.layers()[layer];
        learn_spread(spread[layer], evidence.layers[layer]);
        if (mean_rms.empty()) {
            spread[layer].disagreement = -1;
            continue;
        }
        require(mean_rms.size() >= spec.tensors.size(), "the mean update has too few tensors");
        learn_mean(spread[layer], spec, mean_rms.first(spec.tensors.size()), evidence.clients);
        if (!averages_)  // what another rule makes of them says nothing of how they differ
            spread[layer].disagreement = -1;
        mean_rms = mean_rms.subspan(spec.tensors.size());
    }
    clients_ = std::max<std::uint32_t>(evidence.clients, 1);
    uplink_.learn(spread, evidence.update_bytes);
    uplink_.aim(std::move(spread), noise_share_, ruled_bits(plan));
}

void Links::choose(std::span<const float> model, double coarseness, PrecisionPlan& plan) {
    can_be_coarser_ = uplink_.choose(coarseness);
    for (std::size_t layer = 0; layer < plan.layers.size(); ++layer)
        plan.layers[layer].uplink = uplink_.width(layer);
    if (!sends_deltas_)
        choose_downlink(model, coarseness, plan);
}

void Links::choose_delta(std::span<const float> delta, double coarseness, PrecisionPlan& plan) {
    std::vector<UpdateSpread> spread = spread_of(schema_, delta);
    for (std::size_t layer = 0; layer < spread.size(); ++layer)
        if (uplink_.spread()[layer].rms >= 0)
            spread[layer].disagreement = uplink_.spread()[layer].variance() / clients_;
    delta_.aim(std::move(spread), noise_share_);
    can_be_coarser_ = delta_.choose(coarseness);
    for (std::size_t layer = 0; layer < plan.layers.size(); ++layer)
        plan.layers[layer].downlink = delta_.width(layer);
}

void Links::learn_delta(double payload_bytes) {
    delta_.learn(delta_.spread(), payload_bytes);
}

/// `step` times `coarseness`, but no further than 2 bits.
float Links::coarsened(std::size_t layer, double step, double range, double coarseness) {
    if (is_wide(layer) || !usable(range))
        return to_step(step);
    const double coarsest = std::max(step, grid_step(range, kNarrowestCode));
    can_be_coarser_ = can_be_coarser_ || step * coarseness < coarsest;
    return coarseness == 1 ? to_step(step) : to_step(std::min(step * coarseness, coarsest));
}

void Links::choose_downlink(std::span<const float> model, double coarseness, PrecisionPlan& plan) {
    double squares = 0;
    double coordinates = 0;
    for (std::size_t layer = 0; layer < downlink_ranges_.size(); ++layer) {
        downlink_ranges_[layer] = max_magnitude(schema_.slice(model, layer));
        if (is_wide(layer))
            continue;
        const double step = grid_step(downlink_ranges_[layer], kAutoDownlinkBits);
        const auto count = static_cast<double>(schema_.layers()[layer].count);
        squares += count * step * step;
        coordinates += count;
    }
    const double level = coordinates > 0 ? std::sqrt(squares / coordinates) : 0;
    for (std::size_t layer = 0; layer < downlink_ranges_.size(); ++layer) {
        int& width = plan.layers[layer].downlink;
        if (!downlink_grid_) {
            width = kFullBits;
            continue;
        }
        const double range = downlink_ranges_[layer];
        const bool filled = codec_.downlink.bits == 0 && !is_wide(layer);
        const double step = filled ? std::clamp(level, grid_step(range, kMostAutoDownlinkBits),
                                                grid_step(range, kLeastAutoDownlinkBits))
                                   : grid_step(range, downlink_bits(layer));
        downlink_steps_[layer] = usable(step) ? coarsened(layer, step, range, coarseness) : kFirstStep;
        width = filled || (coarseness > 1 && !is_wide(layer)) ? code_width(range, downlink_steps_[layer])
                                                              : downlink_bits(layer);
    }
}

std::vector<PlanChange> Links::changes(const PrecisionPlan& before, const PrecisionPlan& plan) const {
    std::vector<PlanChange> changes;
    for (std::size_t layer = 0; layer < plan.layers.size(); ++layer) {
        const LayerBits& old = before.layers[layer];
        const LayerBits& now = plan.layers[layer];
        const UpdateSpread& spread = uplink_.spread()[layer];
        if (old.uplink != now.uplink)
            changes.push_back(
                {layer, Phase::uplink, old.uplink, now.uplink,
                 fmt::format("step {:.3g} for updates of RMS {:.3g} that reach {:.3g} and disagree by {:.3g}",
                             uplink_.steps()[layer], spread.rms, spread.range,
                             std::sqrt(std::max(spread.variance(), 0.0)))});
        if (old.downlink == now.downlink)
            continue;
        const UpdateSpread& delta = delta_.spread()[layer];
        changes.push_back({layer, Phase::downlink, old.downlink, now.downlink,
                           sends_deltas_ ? fmt::format("step {:.3g} for changes of RMS {:.3g} that reach {:.3g}",
                                                       delta_.steps()[layer], delta.rms, delta.range)
                                         : fmt::format("step {:.3g} for weights that reach {:.3g}",
                                                       downlink_steps_[layer], downlink_ranges_[layer])});
    }
    return changes;
}

// Both grids of updates, then how many clients the last mean was of.
void Links::append_state(std::vector<double>& state) const {
    uplink_.append_state(state);
    delta_.append_state(state);
    state.push_back(clients_);
}

void Links::restore(StateReader& reader) {
    uplink_.restore(reader);
    delta_.restore(reader);
    clients_ = std::max<std::uint32_t>(reader.round(), 1);
}

}  // namespace dither
