// Optimizers over flat parameter vectors, with state that may be kept in few bits.
//
// To add one: one file in core/optim/, its declaration in core/optim/detail/optimizers.hpp, its row in the table of
// optimizer.cpp and its line in CMake.
#pragma once

#include "core/choice.hpp"
#include "core/model/schema.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/statistics.hpp"
#include "core/rng.hpp"

#include <memory>
#include <span>

namespace dither {

struct OptimizerOptions;

/// Not thread-safe. State memory is planned at construction.
class Optimizer {
public:
    virtual ~Optimizer() = default;

    /// Forgets all state: a new client starts its local training.
    virtual void reset() = 0;
    /// One step on all layers; untrained tensors stay as they are. State of layer i is rounded stochastically to
    /// plan->layers[i].optimizer bits after the step, symmetric, one scale for each block of 256 values (Dettmers et
    /// al. 2022); a null plan keeps fp32. Adam's second moment is kept as its root, on unsigned codes of which a
    /// positive value never takes 0. `key` carries client, round and step; `rate` is the schedule's factor on the
    /// learning rate. Throws TrainingError if state to be rounded is not finite.
    virtual void step(std::span<float> parameters, std::span<const float> gradients, const PrecisionPlan* plan,
                      const StreamKey& key, double rate = 1) = 0;
    /// By how much an error in the smoothed gradient of layer `layer` is magnified on its way into the step, by the
    /// learning rate: ||d step|| / (lr ||d gradient||), from the state after the last step; kNotMeasured before the
    /// first one. sgd: 1 (momentum only sums gradients). adam, adamw: in coordinate j it is 1 / (sqrt(v^_j) + epsilon),
    /// sqrt(v^) moving too slowly to count; of these the root of the mean square, weighted with v^_j, since rounding
    /// errors lie where the gradient does. Unweighted, or as the largest, units that are dead would decide, with
    /// 1 / epsilon, which neither gradient nor error ever meets.
    virtual float step_gain(std::size_t layer) const = 0;
};

/// sgd: v <- momentum * v + g; w <- w - lr * v, or with nesterov w <- w - lr * (g + momentum * v).
///      momentum 0 keeps no state (Sutskever et al. 2013; as torch.optim.SGD with dampening 0).
/// adam: m, v with bias correction; w <- w - lr * m^ / (sqrt(v^) + epsilon) (Kingma and Ba 2015, algorithm 1).
/// weight_decay adds weight_decay * w to g.
/// adamw: adam without weight_decay in g; w <- (1 - lr * weight_decay) w before the step (Loshchilov and Hutter 2019,
/// as torch.optim.AdamW: the schedule scales both). Throws InputError on an unknown kind.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options, const Schema& schema);
std::vector<Choice> optimizer_choices();

}  // namespace dither
