// Additive white noise: out = w + sigma * N(0, 1). Private to core/noise.
#pragma once

#include "core/noise/noise.hpp"

namespace dither {

/// sigma: finite and not negative.
std::unique_ptr<Noise> make_gaussian(double sigma);

}  // namespace dither
