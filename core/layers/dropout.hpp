// Values that are left out at random.
#pragma once

#include "core/layers/layer.hpp"

#include <memory>

namespace dither {

/// Inverted dropout (Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, JMLR 2014): in training passes each
/// value is 0 with the probability `rate` and times 1 / (1 - rate) otherwise; in every other pass, those that record or
/// hold branches included, y is x. Value i is left out if word i of the stream (pass.key, activation_noise, lane) is
/// below rate * 2^32, so `lane` tells the dropout layers of a model apart. Keeps a bit for each value. `input` is one
/// item, batch extent 1. Throws PreconditionError unless 0 <= rate < 1.
std::unique_ptr<Layer> make_dropout(const Shape& input, double rate, std::uint32_t lane);

}  // namespace dither
