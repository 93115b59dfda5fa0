// The weighted mean: rule.hpp. With nothing to compare, updates are summed as integers instead (accumulator.hpp).
#include "aggregator/robust/detail/rules.hpp"

#include <numeric>

namespace dither {

namespace {

class Mean final : public RobustRule {
public:
    void combine(Cohort& cohort, std::span<float> out) const override {
        std::vector<double> coefficients(cohort.weights().begin(), cohort.weights().end());
        const double total = std::accumulate(coefficients.begin(), coefficients.end(), 0.0);
        for (double& coefficient : coefficients)
            coefficient /= total;
        cohort.combine(coefficients, out);
    }
};

}  // namespace

std::unique_ptr<RobustRule> make_mean(std::uint32_t, const AggregationOptions&) {
    return std::make_unique<Mean>();
}

}  // namespace dither
