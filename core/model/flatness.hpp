// How fast the loss rises around the parameters, along random directions d that are normalized filter by filter:
//
//     d_f <- d_f ||w_f|| / ||d_f||, d of N(0, 1);      loss(r) = mean over the directions of L(w + r d)
//
// A filter is the weights of one output channel; biases and norms stay. Without that scale the loss would look flat
// wherever weights are large, though rounding moves weights by a share of their size, as these steps do.
//
// Li, Xu, Taylor, Studer, Goldstein, "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018.
#pragma once

#include "core/data/dataset.hpp"
#include "core/model/loss.hpp"
#include "core/model/model.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dither {

struct LossAlongDirections {
    std::vector<double> radii;  ///< r, in norms of a filter
    std::vector<double> loss;   ///< mean over the directions
};

/// In fp32, at `radii` along `directions` (at least one) of the key's seed. Leaves the model's parameters as they were,
/// even when it fails. Throws TrainingError on a loss that is not finite.
LossAlongDirections loss_along_directions(Model& model, const Loss& loss, const Dataset& data,
                                          std::span<const double> radii, std::uint32_t directions,
                                          const StreamKey& key);

}  // namespace dither
