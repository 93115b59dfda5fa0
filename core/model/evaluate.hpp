// Accuracy and loss of a model on a data set, with the forward pass that the plan prescribes.
#pragma once

#include "core/data/dataset.hpp"
#include "core/model/loss.hpp"
#include "core/model/model.hpp"

namespace dither {

/// Runs the samples in order, in batches of the model's largest, so the result does not depend on who evaluates. Under
/// a plan each batch is quantized with its own exact ranges. Throws TrainingError on a loss that is not finite.
Score evaluate(Model& model, const Loss& loss, const Dataset& data, const PrecisionPlan* plan);

}  // namespace dither
