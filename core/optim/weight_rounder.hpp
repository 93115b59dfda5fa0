// Training without fp32 master weights: after each step the weights themselves are rounded to as many bits as the
// forward pass takes, by chance, over their exact extremes, so that nothing but codes and scales goes from one step to
// the next (with the minmax observer these are the codes of the forward pass; another one rounds them once more) (Gupta
// et al., "Deep learning with limited numerical precision", ICML 2015).
//
// A step smaller than half a code would be lost by rounding to the nearest; rounded by chance, it moves the weight by a
// whole code now and then and is right in the mean, at the price of noise of up to half a code a step.
#pragma once

#include "core/model/schema.hpp"
#include "core/precision/plan.hpp"
#include "core/quantize/quantizer.hpp"
#include "core/rng.hpp"

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace dither {

struct QuantizeOptions;

/// Rounds the tensors called "weight" of layers with products; biases and the parameters of norms stay as they are.
/// The grid is that of the layer's weights (scheme, `bits`, formats), but always over the exact extremes, so that
/// rounding alone never clips. Plans its memory in the first round(). Not thread-safe.
class WeightRounder {
public:
    WeightRounder(const QuantizeOptions& quantize, const Schema& schema);

    /// Rounds the weights of each layer whose plan->layers[i].forward is below 32; none with a null plan. `key` carries
    /// client, round and step. Throws TrainingError on a weight that is not finite.
    void round(std::span<float> parameters, const PrecisionPlan* plan, const StreamKey& key);

private:
    struct Weights {
        std::size_t layer;
        std::size_t offset;
        QuantLayout layout;
        Quantizer quantizer;
    };

    std::vector<Weights> weights_;
    std::size_t parameters_;
    std::size_t layers_;
};

}  // namespace dither
