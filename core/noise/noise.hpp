// Noise regularization: weights and activations are perturbed before the quantized forward pass, so that training finds
// minima which rounding does not hurt. The gradient with respect to what was perturbed is applied to the clean values.
//
// To add a kind: one file in core/noise/, its declaration in core/noise/detail/kinds.hpp, its row in the table of
// noise.cpp and its line in CMake.
#pragma once

#include "core/choice.hpp"
#include "core/rng.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace dither {

struct NoiseOptions;

/// The errors that rounding one layer's operands to the target bits would make: what profiled noise imitates. Measured
/// and smoothed by NoiseProfiler.
struct LayerProfile {
    std::vector<float> weight_mean;       ///< [output channels]: of Q(w) - w
    std::vector<float> weight_deviation;  ///< [output channels]
    std::vector<float> weight_step;       ///< [output channels]: the scale of the codes
    float activation_mean = 0;            ///< of Q(x) - x
    float activation_deviation = 0;
    float activation_step = 0;

    bool empty() const { return weight_mean.empty(); }
    bool operator==(const LayerProfile&) const = default;
};

/// Where noise goes: the parameters of one layer, its weights first, [.., channels], then its biases.
struct NoiseSite {
    std::size_t weights = 0;                ///< how many of the parameters are weights
    std::size_t channels = 1;               ///< output channels, the innermost extent of the weights
    const LayerProfile* profile = nullptr;  ///< what a profiled kind needs
    float strength = 1;                     ///< of the ramp, 0 .. 1: a factor on the noise
};

/// Noise on weights. Immutable after construction; may be shared by threads.
class Noise {
public:
    virtual ~Noise() = default;

    /// Whether perturb needs a profile.
    virtual bool profiled() const { return false; }
    /// Writes w + noise into `out`; both are one layer's parameters, weights and biases. `key` carries client, round
    /// and step, and the layer as its lane, so that samples are independent across all of them. `out` may be `w`.
    virtual void perturb(std::span<const float> w, const NoiseSite& site, std::span<float> out,
                         const StreamKey& key) const = 0;
};

/// What one training pass injects; null and 0: nothing.
struct NoisePass {
    const Noise* weights = nullptr;
    float drop_in = 0;                       ///< share of the activations
    float strength = 1;                      ///< of the ramp
    std::span<const LayerProfile> profiles;  ///< one for each layer of the schema; empty where nothing is profiled
};

/// Activation drop-in: x + m * strength * d, m ~ Bernoulli(share), d ~ N(mean, deviation^2) of the profile's activation
/// error ("DNQ", arXiv 2511.01462; its hyperparameters are not public, so this is a reconstruction). `out` may be `x`.
void drop_in(std::span<const float> x, std::span<float> out, const LayerProfile& profile, float share, float strength,
             const StreamKey& key);

/// none: a null pointer, and no pass over the weights.
/// gaussian: w + strength * sigma * N(0, 1).
/// xi: gaussian with sigma = xi * xi_scaling, xi = 4/3 * 1e-4 ("T0-QAT", 2025, section 0.5.1).
/// differential: w + strength * (d1 - d2), d1 and d2 independent N(mean, deviation^2) of the channel's profile ("DNQ",
/// arXiv 2511.01462), which is strength * N(0, 2 deviation^2): the mean cancels exactly. naive: w + strength * d1, the
/// biased control.
/// dither: w + strength * step * U(-1/2, 1/2), step the channel's at the target bits.
/// Profiled kinds leave the biases alone. At strength 0 every kind hands w through, bit by bit. Throws InputError on
/// another kind.
std::unique_ptr<Noise> make_noise(const NoiseOptions& options);
std::vector<Choice> noise_choices();

/// The factor on all noise at `round` rounds since the start (fractions count steps): 0 in the warm-up, then "none": 1;
/// "step": 1 after ramp_rounds; "linear", "cosine": rising from 0 to 1 within ramp_rounds.
float noise_strength(const NoiseOptions& options, double round);
std::vector<Choice> ramp_choices();

}  // namespace dither
