// Bits as continuous variables, trained by gradient descent: the differentiable search for bit-widths that the article
// "Quantization-aware training: learning low-bit models" names and does not spell out. What follows is a
// reconstruction; it trains on the error model instead of the loss, since a controller has no gradient of the loss.
//
//     J(b, lambda) = sum_j c_j b_j + lambda (E(b) - 1)         E(b) = sum_j e_j v(b_j) / target_error^2
//
// Each layer's forward and backward pass is a place j with the share c_j of the bit-operations, the measured error e_j
// of ErrorModel, and v(b) = (7 / (2^(b-1) - 1))^2, as for whole bits. One step, of kSteps in each round:
//
//     b_j     <- b_j - clamp(eta g_j, -1, 1),   g_j = (dJ/db_j) / c_j = 1 + lambda e_j v'(b_j) / (c_j target_error^2)
//     log2 lambda <- log2 lambda + eta clamp(log2 E, -1, 1)
//
// Descent in units of what a bit costs, so that large and small layers move alike, and ascent of the price lambda while
// the error is above the target. It settles where every place buys the last bit at the same price. b stays between a
// quarter of a bit below the lowest level, where hysteresis lets go, and 32, and a plan takes it raised to a level:
// up to 8 bits its predicted error is below that of b. That leaves b's gains between levels unused, which is the price
// of relaxing. Starts at precision.bits, and waits there until every layer with products has been measured. Layers
// without products keep 8 bits; the optimizers take the widest of all, at least 8.
#include "core/precision/detail/policies.hpp"
#include "core/vector_math.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace dither {
namespace {

constexpr int kSteps = 8;        // a round
constexpr double kRate = 0.5;    // eta
constexpr double kBelow = 0.25;  // the lowest level
constexpr double kReach = (1 << (kSensitivityBits - 1)) - 1;
constexpr std::array kPrices{-6.0, 20.0};  // log2 lambda; it settles near 2^-0.5 unless most places stand at a bound

/// v(b) and -v'(b) = 2 ln2 v (r + 1) / r with the reach r = 2^(b-1) - 1 of a code; of v^(2/3) where that is the law.
struct Variance {
    double value = 0;
    double slope = 0;
};

Variance variance_of(double bits, bool kinked) {
    const double reach = binary_power(bits - 1) - 1;
    const double value = (kReach / reach) * (kReach / reach);
    const double slope = 2 * std::numbers::ln2 * value * (reach + 1) / reach;
    if (!kinked)
        return {.value = value, .slope = slope};
    const double root = std::cbrt(value);
    return {.value = root * root, .slope = 2 * slope / (3 * root)};
}

/// What the rule remembers of a layer.
struct Known {
    LayerSensitivity sensitivity;
    double forward = 0;   ///< b
    double backward = 0;  ///< likewise

    double& bits(Phase phase) { return phase == Phase::forward ? forward : backward; }
};

class Learned final : public Policy {
public:
    Learned(const PrecisionOptions& options, const Schema& schema)
        : levels_(options.levels),
          start_(options.bits),
          target_(options.target_error),
          smoothing_(options.smoothing),
          schema_(schema),
          products_(with_products(schema)),
          known_(schema.layer_count()) {
        for (Known& k : known_)
            k.forward = k.backward = levels_.raise(start_);
    }

    PrecisionPlan initial() const override { return starting_plan(levels_, products_, start_); }

    Probe probe() const override { return Probe::sensitivity; }

    std::vector<PlanChange> update(const Observation& observation, PrecisionPlan& plan) override {
        check_observation(observation, plan, known_.size());
        PlanEditor editor(plan);
        const ErrorModel model(schema_, learn_sensitivities(std::span(known_), observation.layers, smoothing_),
                               observation.rate);
        if (model.complete())
            decide(model, plan, editor);
        editor.finish(levels_, products_);
        return std::move(editor).changes();
    }

    std::vector<double> state() const override {
        std::vector<double> numbers = numbers_of(std::span(known_));
        numbers.push_back(price_);
        return numbers;
    }

    void restore(std::span<const double> state) override {
        std::vector<double> numbers(numbers_of(std::span(known_)).size() + 1);
        restore_numbers(state, std::span<double>(numbers));
        price_ = numbers.back();
        restore_numbers(std::span<const double>(numbers).first(numbers.size() - 1), std::span(known_));
    }

private:
    void decide(const ErrorModel& model, const PrecisionPlan& plan, PlanEditor& editor) {
        std::vector<BitPlace> places = model.places();
        double whole = 0;
        for (const BitPlace& place : places)
            whole += place.cost;
        for (BitPlace& place : places)
            place.cost /= whole;
        double error = 0;
        for (int step = 0; step < kSteps; ++step)
            error = descend(model, places);
        for (const auto& [layer, phase] : model.where()) {
            const double bits = known_[layer].bits(phase);
            editor.set(layer, phase, raise_with_hysteresis(levels_, bits, plan.layers[layer][phase]),
                       fmt::format("b = {:.2f} at the price 2^{:.2f}; step error {:.3g}, target {:.3g}", bits, price_,
                                   std::sqrt(error), target_));
        }
    }

    /// One step; returns the squared error that it found.
    double descend(const ErrorModel& model, std::span<const BitPlace> places) {
        const double price = binary_power(price_) / (target_ * target_);
        double error = 0;
        for (std::size_t j = 0; j < places.size(); ++j) {
            double& bits = known_[model.where()[j].layer].bits(model.where()[j].phase);
            const Variance v = variance_of(bits, places[j].kinked);
            error += places[j].error * v.value;
            const double gradient = 1 - price * places[j].error * v.slope / places[j].cost;
            bits = std::clamp<double>(bits - std::clamp(kRate * gradient, -1.0, 1.0), levels_.lowest() - kBelow,
                                      kFullBits);
        }
        const double ratio = error / (target_ * target_);
        const double excess = ratio > 0 ? std::clamp(safe_log2(ratio), -1.0, 1.0) : -1.0;
        price_ = std::clamp(price_ + kRate * excess, kPrices[0], kPrices[1]);
        return error;
    }

    Levels levels_;
    int start_;
    double target_;
    double smoothing_;
    Schema schema_;
    std::vector<bool> products_;
    std::vector<Known> known_;
    double price_ = 0;  ///< log2 lambda
};

}  // namespace

std::unique_ptr<Policy> make_learned(const PrecisionOptions& options, const Schema& schema) {
    return std::make_unique<Learned>(options, schema);
}

}  // namespace dither
