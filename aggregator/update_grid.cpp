#include "aggregator/update_grid.hpp"

#include "aggregator/detail/state_reader.hpp"
#include "core/error.hpp"
#include "core/precision/plan.hpp"
#include "core/vector_math.hpp"
#include "transport/codec.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace dither {

namespace {

constexpr float kFirstStep = 1e-4F;          // of a layer of which nothing was ever known
constexpr double kSmallestStep = 1e-12;      // a layer that moves less is taken as not having moved
constexpr double kNoiseOfStep = 1.0 / 6;     // E[variance of stochastic rounding] / step^2, values uniform in a cell
constexpr double kLeastDisagreement = 0.01;  // of rms^2
constexpr double kCodedReach = 4.13;         // sqrt(2 pi e): the entropy of a normal value in steps
constexpr double kLeastReach = kCodedReach / 64;  // of reach_; kCodedReach at most: headers must not coarsen grids
constexpr double kLeastShareOfProducts = 0.1;     // of a payload's bits: the norms' are an estimate
constexpr double kSureSaving = 0.85;        // of what coarser grids should save: codes do not pack as entropy does
constexpr double kLeastWideStep = 0x1p-24;  // of its range: codes stay far below what a grid can say
constexpr double kWideStepShare = 0.25;     // of the RMS of a norm's tensor that moved least

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

/// 2^bits - 1, the same on every machine.
double power_of_two_less_one(double bits) {
    const std::array x{static_cast<float>(bits * std::numbers::ln2)};
    std::array<float, 1> power;
    exponentials(x, power);
    return static_cast<double>(power[0]) - 1;
}

}  // namespace

double least_moved(std::span<const double> rms) {
    double least = 0;
    for (const double value : rms)
        if (value > 0 && (least == 0 || value < least))
            least = value;
    return least;
}

std::vector<double> tensor_rms(const Schema& schema, std::span<const float> values) {
    std::vector<double> rms;
    for (const LayerSpec& layer : schema.layers())
        for (const TensorSpec& tensor : layer.tensors)
            rms.push_back(
                root_mean_square(values.subspan(tensor.offset, static_cast<std::size_t>(tensor.shape.count()))));
    return rms;
}

std::vector<UpdateSpread> spread_of(const Schema& schema, std::span<const float> values) {
    const std::vector<double> rms = tensor_rms(schema, values);
    std::span<const double> rest(rms);
    std::vector<UpdateSpread> spread;
    for (std::size_t layer = 0; layer < schema.layer_count(); ++layer) {
        const auto slice = schema.slice(values, layer);
        const std::size_t tensors = schema.layers()[layer].tensors.size();
        spread.push_back({.range = max_magnitude(slice),
                          .rms = root_mean_square(slice),
                          .least_rms = least_moved(rest.first(tensors))});
        rest = rest.subspan(tensors);
    }
    return spread;
}

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
        disagreement += coordinates * layers[i].variance();
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

double grid_step(double range, int bits) {
    return 2 * range / (std::ldexp(1.0, bits) - 2);
}

int code_width(double range, double step) {
    int exponent = 0;  // ceil(log2(m 2^exponent)) is the exponent, for m in (1/2, 1)
    const double mantissa = std::frexp(2 * range / step + 1, &exponent);
    return std::clamp(mantissa == 0.5 ? exponent - 1 : exponent, kNarrowestCode, kWidestCode);
}

bool usable(double step) {
    return std::isfinite(step) && step >= kSmallestStep;
}

float to_step(double step) {
    return static_cast<float>(std::min<double>(step, kLargestGridStep));
}

double default_rate(std::size_t parameters) {
    return std::min(8.0, 0.25 + 2048.0 / static_cast<double>(std::max<std::size_t>(parameters, 1)));
}

UpdateGrid::UpdateGrid(const CodecOptions& options, const Schema& schema, const Makers& makers)
    : schema_(schema),
      options_(options),
      needs_steps_(makers.codec(options, schema)->needs_steps()),
      spread_(schema.layer_count()),
      bits_(schema.layer_count()),
      bases_(schema.layer_count(), needs_steps_ ? kFirstStep : 1.0F),
      steps_(bases_),
      reach_(kCodedReach) {}

void UpdateGrid::aim(std::vector<UpdateSpread> spread, double noise_share, std::span<const int> bits) {
    spread_ = std::move(spread);
    if (!needs_steps_)
        return;
    std::vector<std::size_t> counts;
    for (std::size_t layer = 0; layer < spread_.size(); ++layer)
        counts.push_back(is_wide(layer) ? 0 : schema_.layers()[layer].count);
    const std::vector<double> filled = water_filling_steps(spread_, counts, noise_share);
    const double common = rate_step(noise_share);
    for (std::size_t layer = 0; layer < spread_.size(); ++layer) {
        bits_[layer] = bits.empty() ? options_.bits : bits[layer];
        double step = common > 0 ? common : filled[layer];
        if (is_wide(layer))
            step = wide_step(layer);
        else if (bits_[layer] > 0)
            step = grid_step(spread_[layer].range, bits_[layer]);
        if (usable(step))
            bases_[layer] = to_step(step);
    }
}

double UpdateGrid::wide_step(std::size_t layer) const {
    const UpdateSpread& known = spread_[layer];
    if (bits_[layer] > 0 || known.least_rms < 0)
        return grid_step(known.range, kWidestCode);
    return known.least_rms == 0 ? 0 : std::max(kWideStepShare * known.least_rms, kLeastWideStep * known.range);
}

/// Of all layers with products: a norm's values have a scale of their own.
double UpdateGrid::common_rms(std::span<const UpdateSpread> layers) const {
    double squares = 0;
    double coordinates = 0;
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
        if (is_wide(layer) || layers[layer].rms < 0)
            continue;
        const auto count = static_cast<double>(schema_.layers()[layer].count);
        squares += count * layers[layer].rms * layers[layer].rms;
        coordinates += count;
    }
    return coordinates > 0 ? std::sqrt(squares / coordinates) : 0;
}

/// 0 where noise decides.
double UpdateGrid::rate_step(double noise_share) const {
    if (options_.rate == 0 && noise_share > 0)
        return 0;
    const double rate = options_.rate > 0 ? options_.rate : default_rate(schema_.parameters());
    return reach_ * common_rms(spread_) / power_of_two_less_one(rate);
}

bool UpdateGrid::choose(double coarseness) {
    require(coarseness >= 1, "grids made {} times as coarse, expected at least 1", coarseness);
    bool can_be_coarser = false;
    for (std::size_t layer = 0; layer < spread_.size() && needs_steps_; ++layer) {
        const double base = bases_[layer];
        const double coarsest = std::max(base, grid_step(spread_[layer].range, kNarrowestCode));
        const bool fixed = is_wide(layer) || !usable(coarsest);
        can_be_coarser = can_be_coarser || (!fixed && base * coarseness < coarsest);
        steps_[layer] = fixed || coarseness == 1 ? bases_[layer] : to_step(std::min(base * coarseness, coarsest));
    }
    return can_be_coarser;
}

int UpdateGrid::width(std::size_t layer) const {
    if (!needs_steps_)
        return kFullBits;
    const bool as_told = bits_[layer] > 0 && steps_[layer] == bases_[layer];
    if (as_told && !is_wide(layer))
        return bits_[layer];
    return code_width(std::max(spread_[layer].range, 0.0), steps_[layer]);
}

void UpdateGrid::learn(std::span<const UpdateSpread> sent, double payload_bytes) {
    const double modelled = modelled_bits(sent);  // on the steps that it had
    if (payload_bytes <= 0 || modelled <= 0)
        return;
    measured_bits_ = 8 * payload_bytes;
    modelled_then_ = modelled;
    const double rms = common_rms(sent);
    const auto wanted = std::ranges::find_if_not(schema_.layers(), [](const LayerSpec& l) { return l.macs == 0; });
    if (rms == 0 || wanted == schema_.layers().end())
        return;
    const double step = steps_[static_cast<std::size_t>(wanted - schema_.layers().begin())];
    reach_ = std::clamp(power_of_two_less_one(bits_of_products(sent)) * step / rms, kLeastReach, kCodedReach);
}

/// A coordinate, of the last payload without what its norms are thought to have taken: these keep their own steps, and
/// must not make those of all others coarser and coarser.
double UpdateGrid::bits_of_products(std::span<const UpdateSpread> sent) const {
    double wide = 0;
    double coordinates = 0;
    for (std::size_t layer = 0; layer < sent.size(); ++layer) {
        const auto count = static_cast<double>(schema_.layers()[layer].count);
        if (is_wide(layer))
            wide += count * coded_bits(sent[layer].rms, steps_[layer]);
        else
            coordinates += count;
    }
    return std::max(measured_bits_ - wide, kLeastShareOfProducts * measured_bits_) / coordinates;
}

double UpdateGrid::modelled_bits(std::span<const UpdateSpread> layers) const {
    double bits = 0;
    for (std::size_t layer = 0; layer < layers.size(); ++layer)
        bits += static_cast<double>(schema_.layers()[layer].count) * coded_bits(layers[layer].rms, steps_[layer]);
    return bits;
}

double UpdateGrid::expected_bytes() const {
    if (!needs_steps_)
        return measured_bits_ > 0 ? measured_bits_ / 8 : static_cast<double>(sizeof(float) * schema_.parameters());
    if (modelled_then_ > 0) {
        const double saved = 1 - modelled_bits(spread_) / modelled_then_;
        return measured_bits_ / 8 * (1 - (saved > 0 ? kSureSaving * saved : saved));
    }
    double bits = 0;
    for (std::size_t layer = 0; layer < spread_.size(); ++layer)
        bits += static_cast<double>(schema_.layers()[layer].count) *
                code_width(std::max(spread_[layer].range, 0.0), steps_[layer]);
    return bits / 8;
}

// Each layer: the step before it is made coarser, range, RMS, disagreement and RMS of the least tensor; then the bits
// of the last payload, measured and modelled, and the reach.
void UpdateGrid::append_state(std::vector<double>& state) const {
    for (std::size_t layer = 0; layer < spread_.size(); ++layer) {
        const UpdateSpread& known = spread_[layer];
        state.insert(state.end(), {bases_[layer], known.range, known.rms, known.disagreement, known.least_rms,
                                   static_cast<double>(bits_[layer])});
    }
    state.insert(state.end(), {measured_bits_, modelled_then_, reach_});
}

void UpdateGrid::restore(StateReader& reader) {
    for (std::size_t layer = 0; layer < spread_.size(); ++layer) {
        UpdateSpread& known = spread_[layer];
        bases_[layer] = reader.step();
        for (double* value : {&known.range, &known.rms, &known.disagreement, &known.least_rms})
            *value = reader.measured();
        bits_[layer] = reader.floor();
    }
    steps_ = bases_;
    for (double* value : {&measured_bits_, &modelled_then_, &reach_})
        *value = reader.measured();
}

}  // namespace dither
