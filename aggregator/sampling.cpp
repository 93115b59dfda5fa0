// Floyd's algorithm for a random subset (Bentley and Floyd, "Programming pearls: a sample of brilliance", CACM 30(9),
// 1987): every subset of the size has the same chance, with exactly `count` draws.
#include "aggregator/sampling.hpp"

#include "core/error.hpp"
#include "core/rng.hpp"

#include <cmath>
#include <set>

namespace dither {

std::vector<std::uint32_t> sample_uniform(std::uint32_t clients, std::uint32_t count, std::uint32_t seed,
                                          std::uint32_t round, std::uint32_t lane) {
    require(count <= clients, "cannot draw {} different clients out of {}", count, clients);
    Stream stream(StreamKey{.seed = seed, .purpose = Purpose::sampling, .round = round, .lane = lane});
    std::set<std::uint32_t> chosen;
    for (std::uint32_t last = clients - count; last < clients; ++last) {
        // last + 1 values: 0 .. last. If the drawn one is taken, `last` cannot be.
        const bool is_new = chosen.insert(stream.below(last + 1)).second;
        if (!is_new)
            chosen.insert(last);
    }
    return {chosen.begin(), chosen.end()};
}

double scaled_up(std::uint32_t count, double factor) {
    constexpr double kTolerance = 1e-9;  // relative: far over the rounding of a product, far under one client
    return std::ceil(count * factor * (1 - kTolerance));
}

}  // namespace dither
