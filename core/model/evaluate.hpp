// Accuracy and loss of a model on a data set, with the forward pass that the plan prescribes.
#pragma once

#include "core/data/dataset.hpp"
#include "core/model/loss.hpp"
#include "core/model/model.hpp"

#include <cstdint>
#include <optional>
#include <span>

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
/// Likewise the samples at `indices`, in their order.
Score evaluate(Model& model, const Loss& loss, const Dataset& data, std::span<const std::uint32_t> indices,
               const PrecisionPlan* plan, const StreamKey& key, Ranges ranges = Ranges::of_batch);

/// How far predictions are from their targets, over all samples and outputs, in the targets' unit.
struct RegressionErrors {
    double rmse = 0;           ///< root of the mean squared error
    double mae = 0;            ///< mean absolute error
    std::optional<double> r2;  ///< 1 - mean squared error / the targets' variance around each output's mean: the share
                               ///< of the variance that is explained; absent where targets do not vary

    bool operator==(const RegressionErrors&) const = default;
};
/// Of a score on all of `data`; nothing for classification, or without samples.
std::optional<RegressionErrors> regression_errors(const Score& score, const Dataset& data);

}  // namespace dither
