// A client's control variate (Karimireddy et al., "SCAFFOLD: stochastic controlled averaging for federated learning",
// ICML 2020, option II): what its gradients are on average, by which its steps differ from everybody's,
//
//     y <- y - lr (g(y) + b (c - c_i)), K times from x;     c_i <- b (c_i - c) + (x - y) / (K lr)
//
// where c is everybody's (transport/held_model.hpp), c_i that of the last update that was counted, 0 before the first
// one, and b is federation.strategy.correction. b = 1 is the paper's: then what codecs round away of the updates, which
// is in c and in no c_i, stays in c for ever, and every round steps along the sum of it. With b < 1 each round keeps b
// of that. Steps that loss scaling skips count among the K: c_i moves the less for them.
#pragma once

#include "core/config.hpp"
#include "core/model/schema.hpp"
#include "node/client_vector.hpp"

#include <cstdint>
#include <span>

namespace dither {

/// Not thread-safe: one for each worker, for one client after the other. Borrows the schema.
class ControlVariate {
public:
    ControlVariate(const Job& job, ResidualStore store, const Schema& schema);

    /// ClientVector::begin.
    void begin(const RoundPlan& plan) { vector_.begin(plan); }
    /// c_i, of the model's size; 0 where tensors are not trained.
    std::span<const float> own() const { return vector_.counted(); }
    /// Keeps the next c_i, as ClientVector::keep does: after training of `steps` (> 0) steps that began with c =
    /// `control` and made `update`, y - x. Throws TrainingError where it is not finite.
    void keep(std::span<const float> control, std::span<const float> update, std::uint32_t steps);

private:
    const Schema& schema_;
    double lr_;
    float share_;
    ClientVector vector_;
};

}  // namespace dither
