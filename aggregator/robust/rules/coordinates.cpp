// The median and the trimmed mean of each parameter: rule.hpp.
#include "aggregator/robust/detail/rules.hpp"

namespace dither {

namespace {

class Median final : public RobustRule {
public:
    void combine(Cohort& cohort, std::span<float> out) const override {
        cohort.reduce(
            everyone(cohort.size()), [](const Columns& sorted) { return sorted.median(); }, out);
    }
};

class TrimmedMean final : public RobustRule {
public:
    explicit TrimmedMean(std::uint32_t faulty) : faulty_(faulty) {}

    void combine(Cohort& cohort, std::span<float> out) const override {
        const std::size_t end = cohort.size() - faulty_;
        cohort.reduce(
            everyone(cohort.size()), [&](const Columns& sorted) { return sorted.mean(faulty_, end); }, out);
    }

private:
    std::size_t faulty_;
};

}  // namespace

std::unique_ptr<RobustRule> make_median(std::uint32_t, const AggregationOptions&) {
    return std::make_unique<Median>();
}

std::unique_ptr<RobustRule> make_trimmed_mean(std::uint32_t faulty, const AggregationOptions&) {
    return std::make_unique<TrimmedMean>(faulty);
}

}  // namespace dither
