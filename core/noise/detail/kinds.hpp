// The makers of the kinds of noise; make_noise chooses. Private to core/noise.
#pragma once

#include "core/config.hpp"
#include "core/noise/noise.hpp"

namespace dither {

std::unique_ptr<Noise> make_gaussian(const NoiseOptions& options);
std::unique_ptr<Noise> make_xi(const NoiseOptions& options);
std::unique_ptr<Noise> make_differential(const NoiseOptions& options);
std::unique_ptr<Noise> make_naive(const NoiseOptions& options);
std::unique_ptr<Noise> make_dither(const NoiseOptions& options);

}  // namespace dither
