#include "aggregator/norm_bound.hpp"

#include <algorithm>
#include <limits>
#include <vector>

namespace dither {

void NormBound::learn(std::span<const WeightedReport> reports) {
    std::vector<double> norms;
    for (const WeightedReport& report : reports)
        norms.push_back(report.update_norm);
    if (norms.empty())
        return;
    const auto middle = norms.begin() + static_cast<std::ptrdiff_t>((norms.size() - 1) / 2);
    std::ranges::nth_element(norms, middle);
    typical_ = *middle;
}

double NormBound::largest() const {
    return factor_ > 0 && typical_ > 0 ? factor_ * typical_ : std::numeric_limits<double>::infinity();
}

double NormBound::share(double norm) const {
    return norm > largest() ? largest() / norm : 1;
}

std::uint64_t NormBound::counted(std::uint64_t weight, double norm) const {
    return norm > largest() ? static_cast<std::uint64_t>(static_cast<double>(weight) * share(norm)) : weight;
}

}  // namespace dither
