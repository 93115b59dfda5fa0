// What a node reports about its local training, and what the controller decides from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace dither {

/// Marks a statistic that was not measured in this round. Every measured one but snr_db is >= 0.
inline constexpr float kNotMeasured = -1.0F;

/// One layer's local training. Norms are Euclidean over the layer's parameters (weights and bias).
struct LayerStatistics {
    float grad_norm = kNotMeasured;  ///< RMS over the steps of the minibatch gradient's norm ||g||
    float signal_norm =
        kNotMeasured;  ///< norm of the smoothed gradient: bias-corrected momentum (beta = 0.9), last step
    float theta_norm = kNotMeasured;      ///< ||theta|| after training
    float curvature = kNotMeasured;       ///< h = ||Hv|| / ||v||, v Rademacher on this layer alone (Hessian block)
    float curvature_norm = kNotMeasured;  ///< kappa = spectral norm of the layer's Hessian block, by power iteration
    float lipschitz = kNotMeasured;       ///< spectral norm of the layer's operator, or a bound on it
    float backward_error = kNotMeasured;  ///< eps = ||Q(gy) - gy|| / ||gy|| at 4 bits, stochastic rounding
    float update_range = kNotMeasured;    ///< max |update|
    float update_rms = kNotMeasured;      ///< root mean square of the update
    float saturation = kNotMeasured;      ///< share of quantized activations and weights that were clipped, 0..1
    float snr_db = 0;                     ///< 10 log10(||w||^2 / ||Q(w) - w||^2) of the forward pass; 0 at fp32

    bool operator==(const LayerStatistics&) const = default;
};

/// Calls visit(name, member) for every statistic: the one list that the wire, the combination and the log follow.
template <typename Statistics, typename Visitor>
void for_each_statistic(Statistics& s, Visitor&& visit) {
    visit("grad_norm", s.grad_norm);
    visit("signal_norm", s.signal_norm);
    visit("theta_norm", s.theta_norm);
    visit("curvature", s.curvature);
    visit("curvature_norm", s.curvature_norm);
    visit("lipschitz", s.lipschitz);
    visit("backward_error", s.backward_error);
    visit("update_range", s.update_range);
    visit("update_rms", s.update_rms);
    visit("saturation", s.saturation);
    visit("snr_db", s.snr_db);
}

/// What one client says of one round of local training.
struct TrainingReport {
    std::uint64_t samples = 0;  ///< distinct local training samples
    std::uint32_t steps = 0;    ///< optimizer steps
    float train_loss = 0;       ///< mean over the steps
    std::vector<LayerStatistics> layers;

    bool operator==(const TrainingReport&) const = default;
};

}  // namespace dither
