#include "aggregator/detail/byte_budget.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace dither {

namespace {

constexpr int kMostTries = 24;
constexpr int kFraction = 16;  // coarsenesses are powers of 2^(1/16)
constexpr int kMostOctaves = 16;

/// 2^(n / kFraction), n >= 0. Grids follow from it, so it must be the same to the bit everywhere, as no library's exp2
/// is.
double power(int n) {
    constexpr std::array<double, kFraction> kPowers{1,
                                                    1.0442737824274138,
                                                    1.0905077326652577,
                                                    1.1387886347566916,
                                                    1.189207115002721,
                                                    1.241857812073484,
                                                    1.2968395546510096,
                                                    1.3542555469368927,
                                                    1.4142135623730951,
                                                    1.4768261459394993,
                                                    1.5422108254079407,
                                                    1.6104903319492543,
                                                    1.681792830507429,
                                                    1.7562521603732995,
                                                    1.8340080864093424,
                                                    1.9152065613971474};
    return std::ldexp(kPowers[static_cast<std::size_t>(n % kFraction)], n / kFraction);
}

}  // namespace

Fitted fit_coarseness(double limit, double coordinates, const std::function<double(double)>& bytes_at,
                      const std::function<bool()>& can_be_coarser) {
    Fitted fitted;
    int exponent = 0;
    for (int tries = 1;; ++tries) {
        fitted.coarseness = power(exponent);
        fitted.bytes = bytes_at(fitted.coarseness);
        fitted.fits = fitted.bytes <= limit;
        fitted.coarsest = !can_be_coarser();
        if (fitted.fits || fitted.coarsest || tries == kMostTries)
            return fitted;
        const double excess_bits = 8 * (fitted.bytes - limit) / std::max(coordinates, 1.0);
        const double octaves = std::clamp<double>(excess_bits, 0, kMostOctaves);
        exponent += std::max(static_cast<int>(kFraction * octaves), tries);
    }
}

}  // namespace dither
