#include "aggregator/detail/round_order.hpp"

#include "aggregator/sampling.hpp"

#include <algorithm>

namespace dither {

RoundRules rules_of(const FederationOptions& federation) {
    constexpr double kDivergence = 0.25;  // of a cohort: fewer are lost, so that one that lies does not end a run
    const auto quorum = static_cast<std::uint32_t>(scaled_up(federation.cohort, federation.quorum));
    return {.cohort = federation.cohort,
            .quorum = std::clamp<std::uint32_t>(quorum, 1, federation.cohort),
            .divergence = static_cast<std::uint32_t>(scaled_up(federation.cohort, kDivergence))};
}

}  // namespace dither
