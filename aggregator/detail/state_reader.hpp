// Hands out the numbers of a controller's stored state. Private to the aggregator.
#pragma once

#include "core/error.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/statistics.hpp"
#include "transport/codec.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

namespace dither {

/// Throws PreconditionError on what no controller has stored.
class StateReader {
public:
    explicit StateReader(std::span<const double> state) : rest_(state) {}

    int width() {
        return static_cast<int>(next([](double v) { return is_width(v); }));
    }
    /// A width, or 0 for none.
    int floor() {
        return static_cast<int>(next([](double v) { return v == 0 || is_width(v); }));
    }
    float step() {
        return static_cast<float>(next([](double v) { return v > 0 && v <= kLargestGridStep; }));
    }
    std::uint32_t round() {
        constexpr double kLast = std::numeric_limits<std::uint32_t>::max();
        return static_cast<std::uint32_t>(next([](double v) { return v >= 0 && v <= kLast && is_whole(v); }));
    }
    /// A statistic, or kNotMeasured.
    double measured() {
        return next([](double v) { return (v >= 0 && std::isfinite(v)) || v == kNotMeasured; });
    }
    double number() {
        return next([](double v) { return std::isfinite(v); });
    }
    std::span<const double> rest() const { return rest_; }

private:
    static bool is_whole(double v) { return v == std::floor(v); }
    static bool is_width(double v) { return (v >= 2 && v <= 16 && is_whole(v)) || v == kFullBits; }

    template <typename Rule>
    double next(Rule&& holds) {
        require(!rest_.empty(), "the controller's state is too short");
        const double value = rest_.front();
        require(holds(value), "the controller's state holds {} where it cannot be", value);
        rest_ = rest_.subspan(1);
        return value;
    }

    std::span<const double> rest_;
};

}  // namespace dither
