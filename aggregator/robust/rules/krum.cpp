// Krum and multi-Krum: rule.hpp.
#include "aggregator/robust/detail/krum.hpp"

#include "aggregator/robust/detail/rules.hpp"

#include <algorithm>

namespace dither {

namespace {

/// The mean of the updates that rank best: of one, or of as many as are honest.
class Krum final : public RobustRule {
public:
    Krum(std::uint32_t faulty, bool only_one) : faulty_(faulty), only_one_(only_one) {}

    void combine(Cohort& cohort, std::span<float> out) const override {
        const std::vector<std::uint32_t> ranking = KrumRanking(cohort.gram(), faulty_).best_first();
        const std::size_t count = only_one_ ? 1 : ranking.size() - faulty_;
        std::vector<double> coefficients(ranking.size());
        for (std::size_t k = 0; k < count; ++k)
            coefficients[ranking[k]] = 1 / static_cast<double>(count);
        cohort.combine(coefficients, out);
    }

private:
    std::uint32_t faulty_;
    bool only_one_;
};

}  // namespace

KrumRanking::KrumRanking(const Gram& gram, std::size_t faulty)
    : gram_(gram), faulty_(faulty), neighbours_(neighbours_of(gram)), is_left_(gram.size(), true), left_(gram.size()) {}

void KrumRanking::remove(std::uint32_t update) {
    is_left_[update] = false;
    --left_;
}

std::vector<std::uint32_t> KrumRanking::best_first() const {
    std::vector<double> scores(gram_.size());
    std::vector<std::uint32_t> ranking;
    for (std::uint32_t update = 0; update < gram_.size(); ++update)
        if (is_left_[update]) {
            scores[update] = score(update);
            ranking.push_back(update);
        }
    std::ranges::stable_sort(ranking, {}, [&](std::uint32_t update) { return scores[update]; });
    return ranking;
}

double KrumRanking::score(std::uint32_t update) const {
    std::size_t uncounted = left_ > faulty_ + 3 ? left_ - faulty_ - 2 : 1;
    double sum = 0;
    for (const std::uint32_t neighbour : neighbours_[update]) {
        if (uncounted == 0)
            break;
        if (!is_left_[neighbour])
            continue;
        sum += gram_.squared_distance(update, neighbour);
        --uncounted;
    }
    return sum;
}

std::unique_ptr<RobustRule> make_krum(std::uint32_t faulty, const AggregationOptions&) {
    return std::make_unique<Krum>(faulty, true);
}

std::unique_ptr<RobustRule> make_multi_krum(std::uint32_t faulty, const AggregationOptions&) {
    return std::make_unique<Krum>(faulty, false);
}

}  // namespace dither
