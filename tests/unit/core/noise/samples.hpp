// What the tests of noise share: moments of samples and correlations between them.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace dither {

struct Moments {
    double mean = 0;
    double deviation = 0;
};

inline Moments moments_of(std::span<const float> values) {
    double sum = 0;
    double squares = 0;
    for (const float value : values) {
        sum += static_cast<double>(value);
        squares += static_cast<double>(value) * static_cast<double>(value);
    }
    const double mean = sum / static_cast<double>(values.size());
    return {mean, std::sqrt(squares / static_cast<double>(values.size()) - mean * mean)};
}

inline double correlation(std::span<const float> a, std::span<const float> b) {
    const Moments of_a = moments_of(a);
    const Moments of_b = moments_of(b);
    double product = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        product += (static_cast<double>(a[i]) - of_a.mean) * (static_cast<double>(b[i]) - of_b.mean);
    return product / (static_cast<double>(a.size()) * of_a.deviation * of_b.deviation);
}

/// Five standard errors of a mean, in deviations, and of a correlation; also enough for a normal sample's deviation.
inline double tolerance(std::size_t count) {
    return 5 / std::sqrt(static_cast<double>(count));
}

}  // namespace dither
