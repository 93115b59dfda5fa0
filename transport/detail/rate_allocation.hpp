// Bits for layers of different size and magnitude, so that a payload of given length has the least error.
//
// A layer of n values of variance v that takes R bits a value comes back, unbiased, with an error of n v / (4^R - 1) at
// best. At the least sum, one more bit is worth the same everywhere:
//
//     v 4^R / (4^R - 1)^2 = theta,   so   R = log2(1 + (1 + sqrt(1 + 4 a)) / (2 a)) / 2,   a = theta / v
//
// Where R is large that is reverse water-filling, max(0, log2(v / theta) / 2) (Cover and Thomas, "Elements of
// information theory", 10.3.3); but no layer gets nothing, which would be a bias.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace dither::detail {

struct LayerPower {
    std::size_t count = 0;
    double squared_norm = 0;  ///< 0: needs no bits
};

/// Bits a value of each layer, in 0 .. `highest`, which take `bits` in all, or less if no layer can use more.
std::vector<double> allocate_rates(std::span<const LayerPower> layers, double bits, double highest);

}  // namespace dither::detail
