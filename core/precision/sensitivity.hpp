// How sensitive a training step is to the rounding of one layer: what rounding does to the gradient, measured instead
// of bounded. It is the Hessian along the layer's own rounding error, kinks and activations included, where h ||theta||
// takes a random direction of the weights and kappa ||theta|| the worst.
#pragma once

#include "core/data/dataset.hpp"
#include "core/model/loss.hpp"
#include "core/model/model.hpp"
#include "core/precision/statistics.hpp"

#include <span>
#include <vector>

namespace dither {

/// On one batch, without noise: forward_sensitivity_i = ||g(layer i rounded forward) - g||, backward_sensitivity_i
/// likewise, at kSensitivityBits (or what the job fixes for the layer), all else in fp32; g the gradient of all trained
/// parameters. Rounding one layer reaches the gradients of the others, whose steps the optimizer may magnify otherwise:
/// where `statistics` has step gains, the change of layer j counts by gain_j / gain_i. (All are 1 for SGD.)
///
/// Norms take the statistics of the batch, as in training; dropout leaves nothing out. Ranges are those that training
/// has observed, exact ones after Model::reset(), which is better for weights: what the last step has moved beyond the
/// range that it saw would be clipped, and its gradient with it. Learned ranges are no error.
///
/// Leaves parameters and observers as they were and overwrites the gradients. Costs 1 + 2 gradients for each layer with
/// products (probe_work); layers without products are not measured. `key` carries client and round; the probe rounds as
/// step 2^32 - 1, which no training has. Plans its memory on first use; not thread-safe.
///
/// What it is worth, found at batches of 32 with SGD: mlp, cnn2 and a network with batch norm on made-up data, 24
/// states each (20, 60 or 200 steps, 8 seeds), RMS over 8 batches other than the probe's. The error of a step with 4
/// bits in either phase is 0.6 to 1.7 times the root of the summed squares, 0.85 to 1.15 times in the median. With the
/// bits, errors of the backward pass fall as the grid's steps do. Those of the forward pass fall as their power 0.6 to
/// 0.75, since ever more of them is units that rounding carries over their kink: a step with 8 bits in both has 2.4
/// times the error that variance_factor() predicts from 4 (median; at most 4.7). Both fall about as 1 / sqrt(batch). 16
/// bits, where they stand for bf16, are as rough as 8 bits of integers.
class SensitivityProbe {
public:
    void measure(Model& model, const Loss& loss, const Batch& batch, const StreamKey& key,
                 std::span<LayerStatistics> statistics);

private:
    std::vector<float> exact_;
};

/// ||gradient under the plan - gradient in fp32|| on one batch: what ErrorModel predicts for one step, before
/// smoothing.
struct StepError {
    double forward = 0;   ///< with the plan's forward bits and a backward pass in fp32
    double backward = 0;  ///< the other way round
    double total = 0;
    double gradient = 0;  ///< ||g|| in fp32
};
/// Parameters and observers stay as they were; the gradients are those under the plan. `key` carries client, round and
/// step.
StepError measure_step_error(Model& model, const Loss& loss, const Batch& batch, const PrecisionPlan& plan,
                             const StreamKey& key);

}  // namespace dither
