#include "core/data/holdout.hpp"

#include "core/random_subset.hpp"
#include "core/rng.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace dither {

std::size_t held_out_count(std::size_t samples, double share) {
    constexpr double kTolerance = 1e-9;  // 10 * 0.3 is 3
    const auto count = static_cast<std::size_t>(std::floor(static_cast<double>(samples) * share + kTolerance));
    return samples == 0 ? 0 : std::min(count, samples - 1);
}

LocalSamples hold_out(std::vector<std::uint32_t> samples, double share, std::uint32_t seed, std::uint32_t client) {
    const std::size_t count = held_out_count(samples.size(), share);
    if (count == 0)
        return {.trained = std::move(samples), .held_out = {}};
    Stream stream({.seed = seed, .purpose = Purpose::holdout, .client = client});
    const std::vector<std::uint32_t> places =
        random_subset(stream, static_cast<std::uint32_t>(samples.size()), static_cast<std::uint32_t>(count));
    LocalSamples local;
    local.held_out.reserve(count);
    local.trained.reserve(samples.size() - count);
    auto next = places.begin();
    for (std::uint32_t place = 0; place < samples.size(); ++place) {
        const bool held = next != places.end() && *next == place;
        (held ? local.held_out : local.trained).push_back(samples[place]);
        next += held ? 1 : 0;
    }
    return local;
}

}  // namespace dither
