// Centered clipping (Karimireddy, He, Jaggi 2021, algorithm 2, from 0):
//     v <- v + 1/n sum of (x_i - v) min(1, radius / |x_i - v|)
// v is kept as coefficients of the updates, so that a step costs n^2 whatever the model's size.
#include "aggregator/robust/detail/rules.hpp"

#include <algorithm>
#include <vector>

namespace dither {

namespace {

constexpr int kSteps = 3;

double lower_median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
    std::ranges::nth_element(values, middle);
    return *middle;
}

class CenteredClipping final : public RobustRule {
public:
    explicit CenteredClipping(double radius) : radius_(radius) {}

    void combine(Cohort& cohort, std::span<float> out) const override {
        std::vector<double> coefficients(cohort.size());
        for (int step = 0; step < kSteps; ++step)
            move(cohort.gram(), coefficients);
        cohort.combine(coefficients, out);
    }

private:
    void move(const Gram& gram, std::vector<double>& coefficients) const {
        const std::vector<double> distances = gram.distances(coefficients);
        const double radius = radius_ > 0 ? radius_ : lower_median(distances);
        const auto n = static_cast<double>(gram.size());
        std::vector<double> shares(gram.size());  // of each x_i - v in the step
        double total = 0;
        for (std::size_t i = 0; i < shares.size(); ++i)
            total += shares[i] = (distances[i] > radius ? radius / distances[i] : 1) / n;
        for (std::size_t i = 0; i < shares.size(); ++i)
            coefficients[i] += shares[i] - total * coefficients[i];
    }

    double radius_;
};

}  // namespace

std::unique_ptr<RobustRule> make_centered_clipping(std::uint32_t, const AggregationOptions& options) {
    return std::make_unique<CenteredClipping>(options.radius);
}

}  // namespace dither
