// Noise regularization: weights are perturbed before the quantized forward pass, so that training finds minima which
// rounding does not hurt. The gradient with respect to the perturbed weights is applied to the clean ones.
//
// To add a kind: one file in core/noise/, its declaration in core/noise/detail/kinds.hpp, its row in the table of
// noise.cpp and its line in CMake.
#pragma once

#include "core/choice.hpp"
#include "core/rng.hpp"

#include <memory>
#include <span>

namespace dither {

struct NoiseOptions;

/// Immutable after construction; may be shared by threads.
class Noise {
public:
    virtual ~Noise() = default;

    /// Writes w + noise into `out`; both are one layer's parameters, weights and biases. `key` carries client, round
    /// and step, and the layer as its lane, so that samples are independent across all of them. `out` may be `w`.
    virtual void perturb(std::span<const float> w, std::span<float> out, const StreamKey& key) const = 0;
};

/// none: a null pointer, and no pass over the weights.
/// gaussian: w + sigma * N(0, 1).
/// xi: gaussian with sigma = xi * xi_scaling, xi = 4/3 * 1e-4 ("T0-QAT", 2025, section 0.5.1).
/// Throws InputError on another kind.
std::unique_ptr<Noise> make_noise(const NoiseOptions& options);
std::vector<Choice> noise_choices();

}  // namespace dither
