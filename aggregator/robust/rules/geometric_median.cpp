// The smoothed Weiszfeld iteration (Pillutla, Kakade, Harchaoui 2022, algorithm 1):
//     w_i = 1 / max(nu, |x_i - z|)    z <- sum of w_i x_i / sum of w_i
// z is kept as coefficients of the updates, so that a step costs n^2 whatever the model's size. It begins amid the
// majority, and not at the mean: from where a liar can put that, the honest updates look all alike.
#include "aggregator/robust/detail/rules.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace dither {

namespace {

constexpr int kMostSteps = 1000;
constexpr double kStill = 1e-9;      // a step that is shorter is the last one; as a share of the majority's radius
constexpr double kSmoothing = 1e-6;  // nu, likewise

/// More than half of a cohort, as near to one of them as any such majority is to one of its own. Most updates are
/// honest: the radius is no more than the honest ones' diameter, however far away a minority is.
struct Majority {
    double radius = std::numeric_limits<double>::infinity();
    std::vector<double> coefficients;  ///< of its mean
};

Majority majority_of(const Gram& gram) {
    Majority majority;
    const std::size_t half = gram.size() / 2;
    const Neighbours neighbours = neighbours_of(gram);
    for (std::uint32_t i = 0; i < gram.size(); ++i) {
        const double radius = half == 0 ? 0 : std::sqrt(gram.squared_distance(i, neighbours[i][half - 1]));
        if (radius >= majority.radius)
            continue;
        majority = {radius, std::vector<double>(gram.size())};
        majority.coefficients[i] = 1 / static_cast<double>(half + 1);
        for (std::size_t k = 0; k < half; ++k)
            majority.coefficients[neighbours[i][k]] = majority.coefficients[i];
    }
    return majority;
}

/// Returns how far z moves, at most.
double move(const Gram& gram, double smoothing, std::vector<double>& coefficients) {
    const std::vector<double> distances = gram.distances(coefficients);
    const double nearest = std::max(smoothing, std::ranges::min(distances));
    std::vector<double> weights;  // times `nearest`, so that none is beyond 1
    double total = 0;
    for (const double distance : distances)
        total += weights.emplace_back(nearest / std::max(smoothing, distance));
    double moved = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const double before = std::exchange(coefficients[i], weights[i] / total);
        moved += std::abs(coefficients[i] - before) * distances[i];
    }
    return moved;
}

class GeometricMedian final : public RobustRule {
public:
    void combine(Cohort& cohort, std::span<float> out) const override {
        auto [radius, coefficients] = majority_of(cohort.gram());
        const double smoothing = std::max(kSmoothing * radius, std::numeric_limits<double>::min());
        int steps = 0;
        while (move(cohort.gram(), smoothing, coefficients) > kStill * radius && steps < kMostSteps)
            ++steps;
        cohort.combine(coefficients, out);
    }
};

}  // namespace

std::unique_ptr<RobustRule> make_geometric_median(std::uint32_t, const AggregationOptions&) {
    return std::make_unique<GeometricMedian>();
}

}  // namespace dither
