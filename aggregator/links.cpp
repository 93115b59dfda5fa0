// b-bit codes are symmetric, -(2^(b-1) - 1) .. 2^(b-1) - 1, so that
//     step = range / (2^(b-1) - 1) = 2 range / (2^b - 2)
// covers [-range, range].
//
// A layer has one grid, and the tensors of a norm have scales that differ by orders of magnitude: a step made for its
// running variance would swallow its weights and biases. It has few parameters, so it takes the widest codes.
#include "aggregator/links.hpp"

#include "aggregator/detail/state_reader.hpp"
#include "core/error.hpp"
#include "core/vector_math.hpp"
#include "transport/codec.hpp"

#include <algorithm>
#include <cmath>

namespace dither {

namespace {

constexpr double kFirstUpdateShare = 0.05;   // RMS update / RMS weight, before anything was reported
constexpr double kFirstReach = 8;            // largest / RMS update, likewise: updates are heavy-tailed
constexpr float kFirstStep = 1e-4F;          // for a layer whose weights are all zero
constexpr double kSmallestStep = 1e-12;      // a layer that moves less is taken as not having moved
constexpr double kNoiseOfStep = 1.0 / 6;     // E[variance of stochastic rounding] / step^2, values uniform in a cell
constexpr double kLeastDisagreement = 0.01;  // of rms^2
constexpr double kCodedReach = 4.13;         // sqrt(2 pi e): the entropy of a normal value in steps
constexpr double kSureSaving = 0.85;         // of what coarser grids should save: codes do not pack as entropy does
constexpr int kAutoDownlinkBits = 8;         // whose mean noise the automatic downlink has
constexpr int kLeastAutoDownlinkBits = 6;
constexpr int kMostAutoDownlinkBits = 16;  // both at 8: 8 bits in every layer
constexpr int kNarrowest = 2;
constexpr int kWidest = 16;

double grid_step(double range, int bits) {
    return 2 * range / (std::ldexp(1.0, bits) - 2);
}

bool usable(double step) {
    return std::isfinite(step) && step >= kSmallestStep;
}

/// How many bits codes from -range/step to range/step take.
int code_width(double range, double step) {
    int exponent = 0;  // ceil(log2(m 2^exponent)) is the exponent, for m in (1/2, 1)
    const double mantissa = std::frexp(2 * range / step + 1, &exponent);
    return std::clamp(mantissa == 0.5 ? exponent - 1 : exponent, kNarrowest, kWidest);
}

float to_step(double step) {
    return static_cast<float>(std::min<double>(step, kLargestGridStep));
}

/// A share of the noise: what so many coordinates may take at most.
struct Vessel {
    double capacity = 0;  ///< a coordinate
    double coordinates = 0;
};

/// The level to which vessels of these capacities are filled by `noise`; the largest capacity if it is too much.
double fill_level(std::vector<Vessel> vessels, double noise) {
    std::ranges::sort(vessels, {}, &Vessel::capacity);
    double open = 0;
    for (const Vessel& v : vessels)
        open += v.coordinates;
    for (const Vessel& v : vessels) {
        if (noise <= v.capacity * open)
            return noise / open;
        noise -= v.capacity * v.coordinates;
        open -= v.coordinates;
    }
    return vessels.empty() ? 0 : vessels.back().capacity;
}

bool is_measured(float value) {
    return value >= 0 && std::isfinite(value);
}

double disagreement_or_rms(const UpdateSpread& spread) {
    return spread.disagreement >= 0 ? spread.disagreement : spread.rms * spread.rms;
}

}  // namespace

std::vector<double> water_filling_steps(std::span<const UpdateSpread> layers, std::span<const std::size_t> counts,
                                        double noise_share) {
    require(layers.size() == counts.size(), "{} layers and {} counts", layers.size(), counts.size());
    const auto is_known = [&](std::size_t i) {
        return counts[i] > 0 && layers[i].rms > 0 && std::isfinite(layers[i].rms * layers[i].rms);
    };
    const auto capacity = [&](std::size_t i) {
        const double largest = kLargestStepShare * layers[i].rms;
        return kNoiseOfStep * largest * largest;
    };
    std::vector<Vessel> vessels;
    double disagreement = 0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
        if (!is_known(i))
            continue;
        const auto coordinates = static_cast<double>(counts[i]);
        vessels.push_back({capacity(i), coordinates});
        disagreement += coordinates * disagreement_or_rms(layers[i]);
    }
    const double theta = fill_level(std::move(vessels), noise_share * disagreement);
    std::vector<double> steps(layers.size());
    for (std::size_t i = 0; i < layers.size(); ++i)
        if (is_known(i))
            steps[i] = std::sqrt(std::min(theta, capacity(i)) / kNoiseOfStep);
    return steps;
}

double disagreement_of(double rms, double mean_rms, std::uint32_t clients) {
    if (clients < 2 || rms < 0 || mean_rms < 0)
        return -1;
    const double unbiased = clients / (clients - 1.0);
    return std::max(unbiased * (rms * rms - mean_rms * mean_rms), kLeastDisagreement * rms * rms);
}

double coded_bits(double rms, double step) {
    return binary_logarithm(1 + std::min(kCodedReach * std::max(rms, 0.0) / step, 0x1p64));
}

Links::Links(const Job& job, const Schema& schema, bool policy_rules_uplink)
    : schema_(schema),
      codec_(job.codec),
      noise_share_(job.precision.uplink_noise),
      policy_rules_uplink_(policy_rules_uplink && job.codec.uplink.bits == 0),
      uplink_grid_(make_codec(job.codec.uplink, schema)->needs_steps()),
      downlink_grid_(make_codec(job.codec.downlink, schema)->needs_steps()),
      spread_(schema.layer_count()),
      uplink_bases_(schema.layer_count(), uplink_grid_ ? kFirstStep : 1.0F),
      uplink_steps_(uplink_bases_),
      downlink_steps_(schema.layer_count(), 1.0F),
      downlink_ranges_(schema.layer_count()) {}

/// 0: by water-filling.
int Links::uplink_bits(std::size_t layer, const PrecisionPlan& plan) const {
    if (is_wide(layer))
        return kWidest;
    return policy_rules_uplink_ ? std::clamp(plan.layers[layer].uplink, kNarrowest, kWidest) : codec_.uplink.bits;
}

int Links::downlink_bits(std::size_t layer) const {
    if (is_wide(layer))
        return kWidest;
    return codec_.downlink.bits == 0 ? kAutoDownlinkBits : codec_.downlink.bits;
}

std::string Links::problem_of(std::span<const float> model) const {
    for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
        const float largest = max_magnitude(schema_.slice(model, layer));
        const std::string& name = schema_.layers()[layer].name;
        if (!std::isfinite(largest))
            return fmt::format("layer {} is not finite", name);
        if (const int bits = downlink_bits(layer); downlink_grid_ && grid_step(largest, bits) > kLargestGridStep)
            return fmt::format("layer {} reaches {}, beyond every grid of {} bits", name, largest, bits);
    }
    return {};
}

void Links::start(std::span<const float> model, const PrecisionPlan& plan) {
    for (std::size_t layer = 0; layer < spread_.size(); ++layer) {
        const double rms = kFirstUpdateShare * root_mean_square(schema_.slice(model, layer));
        spread_[layer] = {.range = kFirstReach * rms, .rms = rms};
    }
    set_uplink_bases(plan);
}

void Links::learn(const UpdateEvidence& evidence, const PrecisionPlan& plan) {
    for (std::size_t layer = 0; layer < spread_.size(); ++layer) {
        const LayerStatistics& measured = evidence.layers[layer];
        UpdateSpread& known = spread_[layer];
        if (is_measured(measured.update_range))
            known.range = measured.update_range;
        if (!is_measured(measured.update_rms))
            continue;
        known.rms = measured.update_rms;
        known.disagreement =
            evidence.mean_rms.empty() ? -1 : disagreement_of(known.rms, evidence.mean_rms[layer], evidence.clients);
    }
    const double predicted = modelled_bits();  // on the grids that ran
    if (evidence.update_bytes > 0 && predicted > 0) {
        measured_bits_ = 8 * evidence.update_bytes;
        modelled_then_ = predicted;
    }
    set_uplink_bases(plan);
}

void Links::set_uplink_bases(const PrecisionPlan& plan) {
    if (!uplink_grid_)
        return;
    std::vector<std::size_t> counts;
    for (std::size_t layer = 0; layer < spread_.size(); ++layer)
        counts.push_back(is_wide(layer) ? 0 : schema_.layers()[layer].count);
    const std::vector<double> filled = water_filling_steps(spread_, counts, noise_share_);
    for (std::size_t layer = 0; layer < spread_.size(); ++layer) {
        const int bits = uplink_bits(layer, plan);
        const double step = bits == 0 ? filled[layer] : grid_step(spread_[layer].range, bits);
        if (usable(step))
            uplink_bases_[layer] = to_step(step);
    }
}

void Links::choose(std::span<const float> model, double coarseness, PrecisionPlan& plan) {
    require(coarseness >= 1, "grids made {} times as coarse, expected at least 1", coarseness);
    can_be_coarser_ = false;
    choose_uplink(coarseness, plan);
    choose_downlink(model, coarseness, plan);
}

/// `step` times `coarseness`, but no further than 2 bits.
float Links::coarsened(std::size_t layer, double step, double range, double coarseness) {
    if (is_wide(layer) || !usable(range))
        return to_step(step);
    const double coarsest = std::max(step, grid_step(range, kNarrowest));
    can_be_coarser_ = can_be_coarser_ || step * coarseness < coarsest;
    return coarseness == 1 ? to_step(step) : to_step(std::min(step * coarseness, coarsest));
}

void Links::choose_uplink(double coarseness, PrecisionPlan& plan) {
    for (std::size_t layer = 0; layer < spread_.size(); ++layer) {
        int& width = plan.layers[layer].uplink;
        if (!uplink_grid_) {
            width = kFullBits;
            continue;
        }
        const double range = std::max(spread_[layer].range, 0.0);
        uplink_steps_[layer] = coarsened(layer, uplink_bases_[layer], range, coarseness);
        const bool follows_step = !is_wide(layer) && (codec_.uplink.bits == 0 || coarseness > 1);
        width = follows_step ? code_width(range, uplink_steps_[layer]) : uplink_bits(layer, plan);
    }
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

/// Of an update on the chosen grids, by its last known spread.
double Links::modelled_bits() const {
    double bits = 0;
    for (std::size_t layer = 0; layer < spread_.size(); ++layer)
        bits +=
            static_cast<double>(schema_.layers()[layer].count) * coded_bits(spread_[layer].rms, uplink_steps_[layer]);
    return bits;
}

double Links::expected_update_bytes() const {
    if (!uplink_grid_)
        return static_cast<double>(sizeof(float) * schema_.parameters());
    if (modelled_then_ > 0) {
        const double saved = 1 - modelled_bits() / modelled_then_;
        return measured_bits_ / 8 * (1 - (saved > 0 ? kSureSaving * saved : saved));
    }
    double bits = 0;
    for (std::size_t layer = 0; layer < spread_.size(); ++layer)
        bits += static_cast<double>(schema_.layers()[layer].count) *
                code_width(std::max(spread_[layer].range, 0.0), uplink_steps_[layer]);
    return bits / 8;
}

std::vector<PlanChange> Links::changes(const PrecisionPlan& before, const PrecisionPlan& plan) const {
    std::vector<PlanChange> changes;
    for (std::size_t layer = 0; layer < plan.layers.size(); ++layer) {
        const LayerBits& old = before.layers[layer];
        const LayerBits& now = plan.layers[layer];
        const UpdateSpread& spread = spread_[layer];
        if (old.uplink != now.uplink)
            changes.push_back(
                {layer, Phase::uplink, old.uplink, now.uplink,
                 fmt::format("step {:.3g} for updates of RMS {:.3g} that reach {:.3g} and disagree by {:.3g}",
                             uplink_steps_[layer], spread.rms, spread.range,
                             std::sqrt(std::max(disagreement_or_rms(spread), 0.0)))});
        if (old.downlink != now.downlink)
            changes.push_back({layer, Phase::downlink, old.downlink, now.downlink,
                               fmt::format("step {:.3g} for weights that reach {:.3g}", downlink_steps_[layer],
                                           downlink_ranges_[layer])});
    }
    return changes;
}

// Each layer: the uplink's step before it is made coarser, range, RMS and disagreement of the updates; then the bits of
// an update in the last round, measured and modelled.
void Links::append_state(std::vector<double>& state) const {
    for (std::size_t layer = 0; layer < spread_.size(); ++layer)
        state.insert(state.end(),
                     {uplink_bases_[layer], spread_[layer].range, spread_[layer].rms, spread_[layer].disagreement});
    state.insert(state.end(), {measured_bits_, modelled_then_});
}

void Links::restore(StateReader& reader) {
    for (std::size_t layer = 0; layer < spread_.size(); ++layer) {
        uplink_bases_[layer] = reader.step();
        for (double* value : {&spread_[layer].range, &spread_[layer].rms, &spread_[layer].disagreement})
            *value = reader.measured();
    }
    uplink_steps_ = uplink_bases_;
    measured_bits_ = reader.measured();
    modelled_then_ = reader.measured();
}

}  // namespace dither
