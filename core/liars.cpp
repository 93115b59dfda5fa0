#include "core/liars.hpp"

#include "core/config.hpp"
#include "core/rng.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace dither {
namespace {

std::uint32_t rounded_down(std::uint32_t count, double share) {
    constexpr double kTolerance = 1e-9;  // 10 * 0.3 is 3
    return static_cast<std::uint32_t>(std::floor(count * share + kTolerance));
}

}  // namespace

std::uint32_t liars_borne(const FederationOptions& federation) {
    return rounded_down(federation.cohort, federation.aggregation.faulty);
}

std::uint64_t fewest_updates(const FederationOptions& federation) {
    const std::string& rule = federation.aggregation.kind;
    const std::uint64_t liars = liars_borne(federation);
    if (rule == "mean")
        return 1;
    if (rule == "bulyan")
        return 4 * liars + 3;
    return 2 * liars + (rule == "krum" || rule == "multi_krum" ? 3 : 1);
}

Attackers::Attackers(const FederationOptions& federation, std::uint32_t seed) : clients_(federation.clients) {
    std::iota(clients_.begin(), clients_.end(), 0U);
    Stream({.seed = seed, .purpose = Purpose::attack}).shuffle(clients_);
    clients_.resize(rounded_down(federation.clients, federation.attack.share));
    clients_.shrink_to_fit();
    std::ranges::sort(clients_);
}

bool Attackers::contains(std::uint32_t client) const {
    return std::ranges::binary_search(clients_, client);
}

}  // namespace dither
