// Static ranges for inference: the observers see a few training samples once, and then hold still.
#pragma once

#include "core/data/dataset.hpp"
#include "core/model/model.hpp"

#include <cstdint>
#include <span>

namespace dither {

/// Forgets what the observers know, runs the samples at `indices` through the network under `plan`, in batches of the
/// model's largest, and lets the observers learn from them; evaluate(..., Ranges::kept) uses what they learnt. The
/// first batch sets a range and later ones move it, so one batch of all samples gives exact statistics.
void calibrate(Model& model, const Dataset& data, std::span<const std::uint32_t> indices, const PrecisionPlan& plan);

}  // namespace dither
