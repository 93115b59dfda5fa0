// The makers of the losses; make_loss chooses. Private to core/model.
#pragma once

#include "core/model/loss.hpp"

namespace dither {

std::unique_ptr<Loss> make_cross_entropy(double label_smoothing);
std::unique_ptr<Loss> make_mse(double label_smoothing);

}  // namespace dither
