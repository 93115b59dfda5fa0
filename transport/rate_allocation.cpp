#include "transport/detail/rate_allocation.hpp"

#include "core/vector_math.hpp"

#include <algorithm>
#include <cmath>

namespace dither::detail {
namespace {

constexpr int kBisections = 64;

double rate_at(const LayerPower& layer, double theta, double highest) {
    if (layer.squared_norm == 0)
        return 0;
    const double a = theta * static_cast<double>(layer.count) / layer.squared_norm;
    const double power = 1 + (1 + std::sqrt(1 + 4 * a)) / (2 * a);
    return std::isfinite(power) ? std::min(binary_logarithm(power) / 2, highest) : highest;
}

double bits_at(std::span<const LayerPower> layers, double theta, double highest) {
    double bits = 0;
    for (const LayerPower& layer : layers)
        bits += static_cast<double>(layer.count) * rate_at(layer, theta, highest);
    return bits;
}

}  // namespace

std::vector<double> allocate_rates(std::span<const LayerPower> layers, double bits, double highest) {
    double low = 0;   // the base-2 logarithm of theta, where too many bits are taken, or all that can be
    double high = 0;  // where too few are
    double largest = 0;
    for (const LayerPower& layer : layers)
        largest = std::max(largest, layer.squared_norm);
    std::vector<double> rates(layers.size());
    if (largest == 0)
        return rates;
    low = std::ilogb(largest) - 200;
    high = std::ilogb(largest) + 100;
    for (int i = 0; i < kBisections; ++i) {
        const double middle = (low + high) / 2;
        const double whole = std::floor(middle);
        const double theta = std::ldexp(1 + (middle - whole), static_cast<int>(whole));  // monotone in `middle`
        (bits_at(layers, theta, highest) > bits ? low : high) = middle;
    }
    const double whole = std::floor(high);
    const double theta = std::ldexp(1 + (high - whole), static_cast<int>(whole));
    std::transform(layers.begin(), layers.end(), rates.begin(),
                   [&](const LayerPower& layer) { return rate_at(layer, theta, highest); });
    return rates;
}

}  // namespace dither::detail
