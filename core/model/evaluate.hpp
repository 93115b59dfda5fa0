// Accuracy and loss of a model on a data set, with the forward pass that the plan prescribes.
#pragma once

#include "core/data/dataset.hpp"
#include "core/model/loss.hpp"
#include "core/model/model.hpp"

namespace dither {

/// The batch that every program evaluates with: under a plan the batch decides the ranges, and so the score.
inline constexpr std::int64_t kEvaluationBatch = 250;

/// Where the ranges of quantized activations come from.
enum class Ranges : std::uint8_t {
    of_batch,  ///< the exact ones of each batch
    kept,      ///< what the observers know, from calibrate()
};

/// Runs the samples in order, in batches of the model's largest, so the result does not depend on who evaluates. Under
/// a plan each batch is quantized with its own exact ranges. `key` carries seed, client and round, which matter to
/// stochastic rounding alone; each batch is a step of it. Throws TrainingError on a loss that is not finite.
Score evaluate(Model& model, const Loss& loss, const Dataset& data, const PrecisionPlan* plan, const StreamKey& key,
               Ranges ranges = Ranges::of_batch);

}  // namespace dither
