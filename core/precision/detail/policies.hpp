// The makers of the policies, and what they share. Private to core/precision; make_policy chooses.
#pragma once

#include "core/config.hpp"
#include "core/precision/error_model.hpp"
#include "core/precision/policy.hpp"

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace dither {

std::unique_ptr<Policy> make_fp32(const PrecisionOptions& options, const Schema& schema);
std::unique_ptr<Policy> make_uniform(const PrecisionOptions& options, const Schema& schema);
std::unique_ptr<Policy> make_amp(const PrecisionOptions& options, const Schema& schema);
std::unique_ptr<Policy> make_gradient(const PrecisionOptions& options, const Schema& schema);
std::unique_ptr<Policy> make_curvature(const PrecisionOptions& options, const Schema& schema);
std::unique_ptr<Policy> make_numgeom(const PrecisionOptions& options, const Schema& schema);
std::unique_ptr<Policy> make_numgeom_literal(const PrecisionOptions& options, const Schema& schema);
std::unique_ptr<Policy> make_loss(const PrecisionOptions& options, const Schema& schema);
std::unique_ptr<Policy> make_plateau(const PrecisionOptions& options, const Schema& schema);
std::unique_ptr<Policy> make_range(const PrecisionOptions& options, const Schema& schema);
std::unique_ptr<Policy> make_hawq(const PrecisionOptions& options, const Schema& schema);
std::unique_ptr<Policy> make_learned(const PrecisionOptions& options, const Schema& schema);

/// `bits` in the three local phases; uplink and downlink, which are the controller's, at 32.
PrecisionPlan local_plan(std::size_t layers, int forward, int backward, int optimizer);

/// The state of optimizers survives in no fewer bits than this: its errors add up over steps.
inline constexpr int kLeastOptimizerBits = 8;
/// The level of an optimizer whose layers have `bits`: those, but at least kLeastOptimizerBits.
int optimizer_bits(const Levels& levels, int bits);

/// What policies that decide layer by layer leave to layers without products, in forward and backward pass: the bits
/// say how finely such a layer keeps its input.
inline constexpr int kUndecidedBits = 8;

/// For each layer, whether it multiplies matrices. One that does not, such as a norm, has nothing that forward or
/// backward bits would round: it must not decide the bits of others.
std::vector<bool> with_products(const Schema& schema);

/// Where such a policy starts: layers with products at `bits`, raised to a level.
PrecisionPlan starting_plan(const Levels& levels, const std::vector<bool>& products, int bits);

/// The widest code that an update may travel in.
inline constexpr int kWidestUplink = 16;
/// The width of an update's codes for `raw` bits: any of 2..16, be it a level or not, with the hysteresis of
/// raise_with_hysteresis.
int uplink_bits(double raw, int current);

/// Writes decisions into a plan and keeps those that change it.
class PlanEditor {
public:
    explicit PlanEditor(PrecisionPlan& plan) : plan_(plan) {}

    void set(std::size_t layer, Phase phase, int bits, std::string reason);
    void set_all(Phase phase, int bits, const std::string& reason);
    /// What follows from a policy's decisions layer by layer: layers without products return to kUndecidedBits (an
    /// alarm raises all layers), and all optimizers take the widest forward or backward bits of those with products.
    void finish(const Levels& levels, const std::vector<bool>& products);
    std::vector<PlanChange> changes() && { return std::move(changes_); }

private:
    PrecisionPlan& plan_;
    std::vector<PlanChange> changes_;
};

/// A statistic as policies remember it. Below 0: never measured.
bool is_known(double value);
/// The newest measurement, or the last one where there is none.
double newest(double known, float measured);
/// Exponential moving average: known + weight * (measured - known). What was not measured changes nothing, and a value
/// that is not finite is replaced by the next one instead of spoiling the average for good.
double smooth(double known, float measured, double weight);
/// Likewise for measurements of one batch, which differ by factors and now and then go astray: averages their
/// logarithms, for it is logarithms that become bits, and what lies beyond a factor of kLargestJump of the known value
/// counts as that far from it. From or to 0 as smooth().
double smooth_jumps(double known, float measured, double weight);
inline constexpr double kLargestJump = 4;

/// The level for `raw` bits. It goes down only where raw + 0.25 fits too, so that noise in a statistic does not move
/// the plan to and fro.
int raise_with_hysteresis(const Levels& levels, double raw, int current);

/// log2(value), and +infinity, which every level set raises to 32, for what has no finite logarithm: 0 (a measurement
/// that failed, or a gradient that vanished), an infinity, a NaN.
double safe_log2(double value);

/// Euclidean norm over the layers' norms.
double joint_norm(std::span<const double> norms);

void check_observation(const Observation& observation, const PrecisionPlan& plan, std::size_t layers);
/// Throws FormatError unless `state` has as many numbers as `into`.
void restore_numbers(std::span<const double> state, std::span<double> into);

/// What a rule remembers of each layer, one after the other: Known is a struct of doubles and nothing else.
template <typename Known>
std::vector<double> numbers_of(std::span<Known> known) {
    static_assert(std::is_trivially_copyable_v<Known> && sizeof(Known) % sizeof(double) == 0);
    std::vector<double> numbers(known.size_bytes() / sizeof(double));
    std::memcpy(numbers.data(), known.data(), known.size_bytes());
    return numbers;
}
/// The inverse. Throws FormatError unless `state` has as many numbers.
template <typename Known>
void restore_numbers(std::span<const double> state, std::span<Known> known) {
    std::vector<double> numbers = numbers_of(known);
    restore_numbers(state, std::span<double>(numbers));
    std::memcpy(static_cast<void*>(known.data()), numbers.data(), known.size_bytes());  // trivially copyable: see above
}

/// learn() for what a rule remembers of each layer, a `sensitivity` and more; returns the sensitivities.
template <typename Known>
std::vector<LayerSensitivity> learn_sensitivities(std::span<Known> known, std::span<const LayerStatistics> measured,
                                                  double weight) {
    std::vector<LayerSensitivity> sensitivities;
    for (const Known& layer : known)
        sensitivities.push_back(layer.sensitivity);
    learn(sensitivities, measured, weight);
    for (std::size_t i = 0; i < known.size(); ++i)
        known[i].sensitivity = sensitivities[i];
    return sensitivities;
}

}  // namespace dither
