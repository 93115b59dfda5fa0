// What a plan does to a training step, T = U o B o F ("End-to-End Quantization-Aware Training via Numerical Geometry",
// section 2.1): two predictions of ||step under the plan - step in fp32||.
//
// The prediction that policies use is statistical. E_F,i and E_B,i are what rounding the operands of layer i alone, to
// kSensitivityBits, does to the whole gradient in the forward and in the backward pass (measured by SensitivityProbe).
// Rounding errors of different layers are independent, so that squares add up, and each scales with the steps of its
// grid (variance_factor):
//
//     error^2 = sum_i  d_F / rate * E_F,i^2 v(p_F,i)^(2/3) + d_B * E_B,i^2 v(p_B,i)        relative to s^2 = sum_i
//     s_i^2
//
// s is the smoothed gradient, beta = 0.9. The backward error is drawn anew in each step, and smoothing leaves
// d_B = (1 - beta) / (1 + beta) of its variance. Of the forward error, which differs from batch to batch but has a mean
// of its own, it left 0.1 to 0.6 when measured on CNN-2 and resnet8: d_F = 0.3. Forward errors fall more slowly than
// the steps of the grid, as their power of 0.6 to 0.75, for what a small change does is to carry some units over their
// kink. Adam's layers weigh with their step gain, squared.
//
// rate is the learning rate as a share of its peak. What a noisy gradient costs at a minimum falls with the learning
// rate, what a biased one costs does not: so that rounding adds the same share to both, the forward error must fall
// with the rate, too.
//
// The bound is the source's: error functionals Phi(eps) = L eps + Delta of each phase, composed. It takes the worst
// direction everywhere, and so overstates by orders of magnitude.
#pragma once

#include "core/model/schema.hpp"
#include "core/precision/allocation.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/policy.hpp"
#include "core/precision/statistics.hpp"

#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

namespace dither {

/// Phi(eps) = lipschitz * eps + delta: what a phase makes of an error eps in what it is given.
struct ErrorFunctional {
    double lipschitz = 1;
    double delta = 0;

    double operator()(double eps) const { return lipschitz * eps + delta; }
    bool operator==(const ErrorFunctional&) const = default;
};

/// outer o inner: its Lipschitz constant is the product, its delta outer(inner.delta).
ErrorFunctional compose(const ErrorFunctional& outer, const ErrorFunctional& inner);

/// The smoothing that signal_norm has: beta = 0.9. Of the variance of an error that is drawn anew in each step, so much
/// is left in the smoothed gradient.
inline constexpr double kBackwardDamping = (1 - 0.9) / (1 + 0.9);

/// What is left of the forward error's variance, likewise: between that and 1.
inline constexpr double kForwardDamping = 0.3;
/// The smallest learning rate, as a share of its peak, that the forward error is measured by: what little is left of a
/// schedule then moves the weights too little to follow a bias.
inline constexpr double kLeastRate = 0.15;

/// The source's functionals of one step under a plan, as published and no proven bound: relative to operands and
/// gradients of norm and range 1, an error eps in what a layer
/// is given becomes L_i eps, and rounding its two operands to p bits adds 2 L_i u(p), u(p) = 1 / (2^p - 2) being half a
/// step of a grid. Forward through the layers, backward through them in reverse, then the optimizer, whose state is
/// rounded. L_i is the layer's `lipschitz`, or 1 where it has none (norms); the optimizer's the largest `step_gain`.
struct StepFunctionals {
    ErrorFunctional forward;
    ErrorFunctional backward;
    ErrorFunctional update;

    /// Phi_T = Phi_U o Phi_B o Phi_F.
    ErrorFunctional step() const { return compose(update, compose(backward, forward)); }
};
StepFunctionals step_functionals(const Schema& schema, std::span<const LayerStatistics> layers,
                                 const PrecisionPlan& plan);

/// What is known of one layer; negative: not yet. Policies keep these, smoothed. Norms in any unit that all layers
/// share.
struct LayerSensitivity {
    double forward = kNotMeasured;   ///< E_F,i
    double backward = kNotMeasured;  ///< E_B,i
    double signal = kNotMeasured;    ///< s_i
    double gain = kNotMeasured;      ///< of the optimizer's step; taken as 1 where it is not known
};

/// A layer's share of the predicted error, squared and relative to the whole signal.
struct LayerError {
    double forward = 0;
    double backward = 0;
};

/// A value. Layers without products take no part.
class ErrorModel {
public:
    /// `layers`: one entry for each layer of the schema, which is borrowed for the length of the call.
    /// `rate`: the learning rate as a share of its peak.
    ErrorModel(const Schema& schema, std::span<const LayerSensitivity> layers, double rate = 1);

    /// Whether every layer with products has been measured, to finite values, and there is a signal to be relative to.
    bool complete() const { return complete_; }
    /// ||predicted error of the smoothed step|| / ||smoothed step|| under the plan; infinite where complete() is false.
    double relative_error(const PrecisionPlan& plan) const;
    LayerError layer_error(std::size_t layer, const LayerBits& bits) const;
    /// The places of the allocation, forward then backward of each layer with products, in the order of the schema;
    /// cost is the bit-operations of one sample per bit (forward 1x, backward 2x), error relative to the signal,
    /// infinite where complete() is false.
    std::vector<BitPlace> places() const;
    /// The layer and phase of each place.
    struct Where {
        std::size_t layer = 0;
        Phase phase = Phase::forward;
    };
    /// Valid as long as the model.
    std::span<const Where> where() const { return where_; }

private:
    std::vector<Where> where_;
    std::vector<BitPlace> places_;
    bool complete_ = false;
};

/// The plan's bits at the model's places, in their order.
std::vector<int> bits_of(const PrecisionPlan& plan, std::span<const ErrorModel::Where> where);

/// What becomes of bits that a plan gives a place, where the job fixes others; never less for more bits.
using Granted = std::function<int(std::size_t layer, Phase phase, int bits)>;

/// Takes in what a round measured, an entry of each for each layer, in units of the norm of that round's smoothed
/// gradient: a sensitivity is worth what it is beside the gradient of its own round, for both fall together, by a
/// hundred times and more where a model comes to fit its data. So a round that measured no sensitivity changes nothing.
/// What was not measured keeps its value, what is not finite is replaced by the next value, and one measurement counts
/// as at most 4 times off. Throws PreconditionError unless the sizes agree.
void learn(std::span<LayerSensitivity> known, std::span<const LayerStatistics> measured, double weight);

/// Lowers the plan's forward and backward bits until mean_bits is at most `budget`, so that the least error is added
/// (best_within_cost); where the model is not complete all layers are taken as alike sensitive. Bits never rise, and
/// those that change become levels; a place that cannot go lower, since the job fixes its bits, stays and its cost
/// counts. Returns what changed and why. A budget below the lowest level gives the lowest
/// level everywhere.
std::vector<PlanChange> keep_within_budget(
    const Schema& schema, const Levels& levels, const ErrorModel& model, double budget, PrecisionPlan& plan,
    const Granted& granted = [](std::size_t, Phase, int bits) { return bits; });

}  // namespace dither
