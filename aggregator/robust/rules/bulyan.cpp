// Bulyan: rule.hpp. Krum keeps liars far from the honest out, but one coordinate of a vector that is near may be
// anything; so nothing but what is near each coordinate's median counts.
#include "aggregator/robust/detail/krum.hpp"
#include "aggregator/robust/detail/rules.hpp"

#include <array>

namespace dither {

namespace {

/// Of the sorted values v of each column, the mean of the `count` nearest to the median m. They lie side by side:
/// behind as many v[i] as are further from m than v[i + count] is.
Columns::Doubles mean_near_median(const Columns& sorted, std::size_t count) {
    const Columns::Doubles median = sorted.median();
    std::array<std::size_t, Columns::kWidth> first{};
    for (std::size_t i = 0; i + count < sorted.rows(); ++i)
        for (std::size_t j = 0; j < median.size(); ++j)
            first[j] += sorted.row(i + count)[j] - median[j] < median[j] - sorted.row(i)[j] ? 1 : 0;
    Columns::Doubles means{};
    for (std::size_t i = 0; i < sorted.rows(); ++i)
        for (std::size_t j = 0; j < median.size(); ++j)
            means[j] += first[j] <= i && i < first[j] + count ? sorted.row(i)[j] : 0.0;
    for (double& mean : means)
        mean /= static_cast<double>(count);
    return means;
}

class Bulyan final : public RobustRule {
public:
    explicit Bulyan(std::uint32_t faulty) : faulty_(faulty) {}

    void combine(Cohort& cohort, std::span<float> out) const override {
        std::vector<std::uint32_t> selected;
        KrumRanking ranking(cohort.gram(), faulty_);
        while (selected.size() < cohort.size() - 2 * faulty_) {
            selected.push_back(ranking.best_first().front());
            ranking.remove(selected.back());
        }
        const std::size_t count = selected.size() - 2 * faulty_;
        cohort.reduce(
            selected, [&](const Columns& sorted) { return mean_near_median(sorted, count); }, out);
    }

private:
    std::size_t faulty_;
};

}  // namespace

std::unique_ptr<RobustRule> make_bulyan(std::uint32_t faulty, const AggregationOptions&) {
    return std::make_unique<Bulyan>(faulty);
}

}  // namespace dither
