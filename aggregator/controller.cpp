// The grids of the two directions. b-bit codes are symmetric, -(2^(b-1) - 1) .. 2^(b-1) - 1, so that
//     step = range / (2^(b-1) - 1) = 2 range / (2^b - 2)
// covers [-range, range]. "auto" takes step = rms / 2 for the uplink: stochastic rounding onto a grid adds at most
// step^2/4 and on average step^2/6 of variance (x uniform between two points), 4% of the update's own mean square.
//
// A layer has one grid, and the tensors of a norm have scales that differ by orders of magnitude: a step made for its
// running variance would swallow its weights and biases. It has few parameters, so it takes the widest codes.
#include "aggregator/controller.hpp"

#include "aggregator/sampling.hpp"
#include "core/error.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>

namespace dither {

namespace {

constexpr double kAutoStepShare = 0.5;      // of the RMS update
constexpr double kFirstUpdateShare = 0.05;  // RMS update / RMS weight, before anything was reported
constexpr double kFirstReach = 8;           // largest / RMS update, likewise: updates are heavy-tailed
constexpr float kFirstStep = 1e-4F;         // for a layer whose weights are all zero
constexpr double kSmallestStep = 1e-12;     // a layer that moves less is taken as not having moved
constexpr int kAutoDownlinkBits = 8;
constexpr int kNarrowest = 2;
constexpr int kWidest = 16;
constexpr std::array kLocalPhases{Phase::forward, Phase::backward, Phase::optimizer};
constexpr std::uint32_t kProbeLane = 1;  // of the sampling stream: 0 draws the clients of the round

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

double root_mean_square(std::span<const float> values) {
    return values.empty() ? 0 : std::sqrt(squared_norm(values) / static_cast<double>(values.size()));
}

/// Hands out a stored state and throws PreconditionError on what no controller has stored.
class StateReader {
public:
    explicit StateReader(std::span<const double> state) : rest_(state) {}

    int width() {
        return static_cast<int>(next([](double v) { return is_width(v); }));
    }
    int floor() {
        return static_cast<int>(next([](double v) { return v == 0 || is_width(v); }));
    }
    float step() {
        return static_cast<float>(next([](double v) { return v > 0 && v <= kLargestGridStep; }));
    }
    std::uint32_t round() {
        constexpr double kLast = std::numeric_limits<std::uint32_t>::max();
        return static_cast<std::uint32_t>(next([](double v) { return v >= 0 && v <= kLast; }));
    }
    std::span<const double> rest() const { return rest_; }

private:
    static bool is_width(double v) { return (v >= kNarrowest && v <= kWidest) || v == kFullBits; }

    template <typename Rule>
    double next(Rule&& holds) {
        require(!rest_.empty(), "the controller's state is too short");
        const double value = rest_.front();
        require(holds(value), "the controller's state holds {} where it cannot be", value);
        rest_ = rest_.subspan(1);
        return value;
    }

    std::span<const double> rest_;
};

/// One statistic of one layer over the clients.
struct Combination {
    double sum = 0;  ///< or the largest so far
    double weight = 0;

    void add(Combine rule, double value, double client_weight) {
        if (rule == Combine::largest)
            sum = std::max(sum, value);
        else
            sum += client_weight * (rule == Combine::mean ? value : value * value);
        weight += client_weight;
    }

    float result(Combine rule) const {
        if (rule == Combine::largest)
            return static_cast<float>(sum);
        return static_cast<float>(rule == Combine::mean ? sum / weight : std::sqrt(sum / weight));
    }
};

LayerStatistics combine_layer(std::span<const WeightedReport> reports, std::size_t layer) {
    std::vector<Combination> combinations;
    for (const WeightedReport& report : reports) {
        std::size_t index = 0;
        for_each_statistic(report.report.layers[layer], [&](const char*, float value, Combine rule) {
            if (index == combinations.size())
                combinations.emplace_back();
            if (value >= 0 && std::isfinite(value))
                combinations[index].add(rule, value, static_cast<double>(report.weight));
            ++index;
        });
    }
    LayerStatistics combined;
    std::size_t index = 0;
    for_each_statistic(combined, [&](const char*, float& value, Combine rule) {
        if (index < combinations.size() && combinations[index].weight > 0)
            value = combinations[index].result(rule);
        ++index;
    });
    return combined;
}

}  // namespace

std::vector<LayerStatistics> combine(std::vector<WeightedReport>& reports, std::size_t layers) {
    std::sort(reports.begin(), reports.end(), [](const auto& a, const auto& b) { return a.client < b.client; });
    for (const WeightedReport& report : reports)
        require(report.report.layers.size() == layers, "client {} reports {} layers, expected {}", report.client,
                report.report.layers.size(), layers);
    std::vector<LayerStatistics> combined;
    combined.reserve(layers);
    for (std::size_t layer = 0; layer < layers; ++layer)
        combined.push_back(combine_layer(reports, layer));
    return combined;
}

Controller::Controller(const Job& job, const Schema& schema)
    : schema_(schema),
      options_(job.precision),
      codec_(job.codec),
      uplink_grid_(make_codec(job.codec.uplink, schema)->needs_steps()),
      downlink_grid_(make_codec(job.codec.downlink, schema)->needs_steps()),
      levels_(job.precision.levels),
      policy_(make_policy(job.precision, schema)),
      plan_(policy_->initial()),
      uplink_steps_(schema.layer_count(), uplink_grid_ ? kFirstStep : 1.0F),
      floors_(schema.layer_count()),
      seed_(job.job.seed) {
    for (std::size_t layer = 0; layer < plan_.layers.size(); ++layer) {
        const QuantizeOptions quantize = options_for(job.quantize, schema.layers()[layer].name);
        const bool products = schema.layers()[layer].macs > 0;
        fixed_.push_back({.weights = products ? quantize.weights.bits : 0,
                          .activations = products ? quantize.activations.bits : 0,
                          .gradients = products ? quantize.gradients.bits : 0,
                          .optimizer = quantize.optimizer_bits});
        plan_.layers[layer].downlink = downlink_bits(layer);
    }
    std::vector<PlanChange> none;
    fix(none);
}

/// The forward phase has the width of its wider operand.
int Controller::Fixed::bits(Phase phase, int planned) const {
    const auto or_planned = [planned](int bits) { return bits == 0 ? planned : bits; };
    if (planned == kFullBits)
        return planned;
    if (phase == Phase::forward)
        return std::max(or_planned(weights), or_planned(activations));
    return or_planned(phase == Phase::backward ? gradients : optimizer);
}

void Controller::fix(std::vector<PlanChange>& changes) {
    const auto fixed = [&](std::size_t layer, Phase phase, int bits) { return fixed_[layer].bits(phase, bits); };
    std::erase_if(changes, [&](const PlanChange& c) {
        return std::ranges::find(kLocalPhases, c.phase) != kLocalPhases.end() &&
               fixed(c.layer, c.phase, c.from) == fixed(c.layer, c.phase, c.to);
    });
    for (PlanChange& c : changes)
        c.to = fixed(c.layer, c.phase, c.to);
    for (std::size_t layer = 0; layer < plan_.layers.size(); ++layer)
        for (const Phase phase : kLocalPhases)
            plan_.layers[layer][phase] = fixed(layer, phase, plan_.layers[layer][phase]);
}

/// Whether the layer takes the widest codes, whatever the job says.
bool Controller::is_wide(std::size_t layer) const {
    return schema_.layers()[layer].macs == 0;
}

int Controller::downlink_bits(std::size_t layer) const {
    if (!downlink_grid_)
        return kFullBits;
    if (is_wide(layer))
        return kWidest;
    return codec_.downlink.bits == 0 ? kAutoDownlinkBits : codec_.downlink.bits;
}

std::vector<float> Controller::downlink_steps(std::span<const float> model) const {
    std::vector<float> steps(schema_.layer_count(), 1.0F);
    if (!downlink_grid_)
        return steps;
    for (std::size_t layer = 0; layer < steps.size(); ++layer) {
        const double step = grid_step(max_magnitude(schema_.slice(model, layer)), downlink_bits(layer));
        steps[layer] = usable(step) ? to_step(step) : kFirstStep;
    }
    return steps;
}

std::string Controller::problem_of(std::span<const float> model) const {
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

bool Controller::measurement_is_due(std::uint32_t round) const {
    const std::uint32_t every = std::max<std::uint32_t>(options_.curvature_every, 1);
    const std::uint32_t scheduled = round - (round - 1) % every;  // the last round that should have brought one
    return measured_in_ < scheduled;
}

std::vector<Probe> Controller::probes(std::uint32_t round, std::size_t asked) const {
    std::vector<Probe> probes(asked, Probe::none);
    if (!measurement_is_due(round))
        return probes;
    const auto places = static_cast<std::uint32_t>(asked);
    const std::uint32_t count = std::min(options_.curvature_clients, places);
    for (const std::uint32_t place : sample_uniform(places, count, seed_, round, kProbeLane))
        probes[place] = policy_->probe();
    return probes;
}

void Controller::start(std::span<const float> model) {
    for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
        const double rms = kFirstUpdateShare * root_mean_square(schema_.slice(model, layer));
        choose_uplink(layer, kFirstReach * rms, rms);
    }
}

std::vector<PlanChange> Controller::learn(std::uint32_t round, double train_loss,
                                          std::span<const LayerStatistics> statistics) {
    require(statistics.size() == schema_.layer_count(), "statistics of {} layers, expected {}", statistics.size(),
            schema_.layer_count());
    const auto measured = [](const LayerStatistics& s) { return s.curvature >= 0 || s.curvature_norm >= 0; };
    if (std::any_of(statistics.begin(), statistics.end(), measured))
        measured_in_ = round;
    auto changes = policy_->update({.round = round, .train_loss = train_loss, .layers = statistics}, plan_);
    fix(changes);
    hold(changes);
    for (std::size_t layer = 0; layer < statistics.size(); ++layer) {
        choose_uplink(layer, statistics[layer].update_range, statistics[layer].update_rms);
        plan_.layers[layer].downlink = downlink_bits(layer);
    }
    return changes;
}

void Controller::hold(std::vector<PlanChange>& changes) {
    if (++calm_rounds_ >= kAlarmRounds)
        std::fill(floors_.begin(), floors_.end(), Floor{});
    for (std::size_t layer = 0; layer < plan_.layers.size(); ++layer) {
        for (std::size_t i = 0; i < kLocalPhases.size(); ++i) {
            int& bits = plan_.layers[layer][kLocalPhases[i]];
            const int floor = floors_[layer][i];
            if (bits >= floor)
                continue;
            changes.push_back({layer, kLocalPhases[i], bits, floor,
                               fmt::format("held at {} bits after a divergence in round {}", floor, alarm_round_)});
            bits = floor;
        }
    }
}

std::vector<PlanChange> Controller::alarm(std::uint32_t round, const std::string& reason) {
    std::vector<PlanChange> changes;
    alarm_round_ = round;
    calm_rounds_ = 0;
    for (std::size_t layer = 0; layer < plan_.layers.size(); ++layer) {
        for (std::size_t i = 0; i < kLocalPhases.size(); ++i) {
            const Phase phase = kLocalPhases[i];
            int& bits = plan_.layers[layer][phase];
            int raised = levels_.raise(bits + 1);
            // A layer whose bits are fixed has no level between those and fp32.
            if (phase != Phase::optimizer && fixed_[layer].bits(phase, raised) <= bits)
                raised = kFullBits;
            floors_[layer][i] = raised;
            if (raised == bits)
                continue;
            changes.push_back({layer, phase, bits, raised, reason});
            bits = raised;
        }
    }
    return changes;
}

void Controller::choose_uplink(std::size_t layer, double range, double rms) {
    int& width = plan_.layers[layer].uplink;
    if (!uplink_grid_) {
        width = kFullBits;
        return;
    }
    const int bits = is_wide(layer) ? kWidest : codec_.uplink.bits;
    const double step = bits == 0 ? kAutoStepShare * rms : grid_step(range, bits);
    if (usable(step))
        uplink_steps_[layer] = to_step(step);
    width = bits == 0 ? code_width(std::max(range, 0.0), uplink_steps_[layer]) : bits;
}

// Each layer: its five widths, its uplink step and its three floors; then the alarm's round and the calm ones since,
// the round of the last measurement, and the policy's own state.
std::vector<double> Controller::state() const {
    std::vector<double> state;
    for (std::size_t layer = 0; layer < plan_.layers.size(); ++layer) {
        for (const Phase phase : kPhases)
            state.push_back(plan_.layers[layer][phase]);
        state.push_back(uplink_steps_[layer]);
        state.insert(state.end(), floors_[layer].begin(), floors_[layer].end());
    }
    for (const std::uint32_t round : {alarm_round_, calm_rounds_, measured_in_})
        state.push_back(round);
    const std::vector<double> policy = policy_->state();
    state.insert(state.end(), policy.begin(), policy.end());
    return state;
}

void Controller::restore(std::span<const double> state) {
    StateReader reader(state);
    for (std::size_t layer = 0; layer < plan_.layers.size(); ++layer) {
        for (const Phase phase : kPhases)
            plan_.layers[layer][phase] = reader.width();
        uplink_steps_[layer] = reader.step();
        for (int& floor : floors_[layer])
            floor = reader.floor();
    }
    for (std::uint32_t* round : {&alarm_round_, &calm_rounds_, &measured_in_})
        *round = reader.round();
    policy_->restore(reader.rest());
}

}  // namespace dither
