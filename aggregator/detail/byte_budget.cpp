#include "aggregator/detail/byte_budget.hpp"

#include <algorithm>
#include <cmath>

namespace dither {

namespace {

constexpr int kMostTries = 24;
constexpr double kLeastStep = 1.0 / 16;  // of log2(coarseness)
constexpr double kMostStep = 16;

}  // namespace

Fitted fit_coarseness(double limit, double coordinates, const std::function<double(double)>& bytes_at,
                      const std::function<bool()>& can_be_coarser) {
    Fitted fitted;
    double exponent = 0;
    for (int tries = 1;; ++tries) {
        fitted.coarseness = std::exp2(exponent);
        fitted.bytes = bytes_at(fitted.coarseness);
        fitted.fits = fitted.bytes <= limit;
        if (fitted.fits || tries == kMostTries || !can_be_coarser())
            return fitted;
        const double excess_bits = 8 * (fitted.bytes - limit) / std::max(coordinates, 1.0);
        exponent += std::clamp(excess_bits, kLeastStep * tries, kMostStep);
    }
}

}  // namespace dither
