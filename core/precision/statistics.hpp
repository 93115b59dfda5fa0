// What a node reports about its local training, and what the controller decides from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace dither {

/// Marks a statistic that was not measured in this round. Every measured one is >= 0.
inline constexpr float kNotMeasured = -1.0F;

/// One layer's local training. Norms, curvatures and errors speak of the layer's trained parameters; norms are
/// Euclidean. update_range, update_rms and update_nmse speak of all that crosses the wire, running statistics included:
/// the uplink's grid is sized by the first two.
struct LayerStatistics {
    float grad_norm = kNotMeasured;  ///< RMS over the steps of the minibatch gradient's norm ||g||
    float signal_norm =
        kNotMeasured;  ///< norm of the smoothed gradient: bias-corrected momentum (beta = 0.9), last step
    float theta_norm = kNotMeasured;      ///< ||theta|| after training
    float curvature = kNotMeasured;       ///< h = ||Hv|| / ||v||, v Rademacher on this layer alone (Hessian block)
    float curvature_norm = kNotMeasured;  ///< kappa = spectral norm of the layer's Hessian block, by power iteration
    float curvature_trace =
        kNotMeasured;                ///< of the layer's Hessian block, v'Hv of the same v (Hutchinson); 0 if below
    float lipschitz = kNotMeasured;  ///< spectral norm of the layer's operator, or a bound on it; none for norms
    float forward_sensitivity = kNotMeasured;   ///< ||change of the whole gradient|| where this layer alone rounds the
                                                ///< operands of its forward product to kSensitivityBits
    float backward_sensitivity = kNotMeasured;  ///< likewise, the operands of its backward products
    float step_gain = kNotMeasured;  ///< Lipschitz constant of the optimizer's step by the learning rate: 1 for SGD
    float backward_error = kNotMeasured;  ///< eps = ||Q(gy) - gy|| / ||gy|| at 4 bits, stochastic rounding
    float update_range = kNotMeasured;    ///< max |update|, of untrained tensors too
    float update_rms = kNotMeasured;      ///< root mean square of the update, likewise
    float saturation = kNotMeasured;      ///< share of quantized activations and weights that were clipped, 0..1
    float forward_error = kNotMeasured;   ///< ||Q(w) - w|| / ||w|| at the forward bits; not measured at fp32
    float underflow =
        kNotMeasured;  ///< share of the output gradient's non-zero values whose code is 0 at the backward bits, 0..1
    float update_nmse =
        kNotMeasured;  ///< ||decoded - x||^2 / ||x||^2 of x, what the uplink's codec was given of the layer: the update
                       ///< and, with error feedback, the residual. Squares, unlike the errors above; none of x = 0

    bool operator==(const LayerStatistics&) const = default;
};

/// The width that sensitivities are measured at: errors at others follow from it (core/precision/error_model.hpp).
inline constexpr int kSensitivityBits = 4;

/// How the clients' values of a statistic become the federation's; means are weighted as the updates are.
enum class Combine { mean, root_mean_square, largest };

/// Calls visit(name, member, combine) for every statistic: the one list that the wire, the combination and the log
/// follow.
template <typename Statistics, typename Visitor>
void for_each_statistic(Statistics& s, Visitor&& visit) {
    visit("grad_norm", s.grad_norm, Combine::root_mean_square);
    visit("signal_norm", s.signal_norm, Combine::root_mean_square);
    visit("theta_norm", s.theta_norm, Combine::root_mean_square);
    visit("curvature", s.curvature, Combine::mean);
    visit("curvature_norm", s.curvature_norm, Combine::mean);
    visit("curvature_trace", s.curvature_trace, Combine::mean);
    visit("lipschitz", s.lipschitz, Combine::mean);
    visit("forward_sensitivity", s.forward_sensitivity, Combine::root_mean_square);
    visit("backward_sensitivity", s.backward_sensitivity, Combine::root_mean_square);
    visit("step_gain", s.step_gain, Combine::mean);
    visit("backward_error", s.backward_error, Combine::root_mean_square);
    visit("update_range", s.update_range, Combine::largest);
    visit("update_rms", s.update_rms, Combine::root_mean_square);
    visit("saturation", s.saturation, Combine::mean);
    visit("forward_error", s.forward_error, Combine::root_mean_square);
    visit("underflow", s.underflow, Combine::mean);
    visit("update_nmse", s.update_nmse, Combine::mean);
}

/// What a client's held-out samples say of the model that it received, and of that after its own training: the
/// federation's model, and the client's own fine-tuned one.
struct HeldOutScore {
    std::uint64_t samples = 0;  ///< 0: not evaluated
    float loss = 0;             ///< mean, of the received model
    float accuracy = 0;         ///< 0..1; 0 for regression
    float personal_loss = 0;    ///< likewise, after training
    float personal_accuracy = 0;

    bool operator==(const HeldOutScore&) const = default;
};

/// What one client says of one round of local training.
struct TrainingReport {
    std::uint64_t samples = 0;         ///< distinct local training samples
    std::uint32_t steps = 0;           ///< optimizer steps
    float train_loss = 0;              ///< mean over the steps
    float seconds = 0;                 ///< that training took, on the node's clock, without the measurements below
    float probe_seconds = 0;           ///< that the measurements of the probe took, but for held_out
    float update_nmse = kNotMeasured;  ///< LayerStatistics::update_nmse of all layers as one vector (vNMSE)
    HeldOutScore held_out;             ///< where the round evaluates and the client holds samples back
    std::vector<LayerStatistics> layers;

    bool operator==(const TrainingReport&) const = default;
};

}  // namespace dither
