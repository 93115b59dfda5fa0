#include "transport/detail/trellis.hpp"

#include "tests/unit/transport/codecs.hpp"

#include <functional>

using namespace dither;
using namespace dither::detail;
using namespace dither::test;

namespace {

/// Positions of about so many levels.
std::vector<std::int16_t> positions_of(std::size_t count, std::uint32_t seed, float spread) {
    std::vector<std::int16_t> positions;
    for (const float value : normal_values(count, seed, spread * TrellisSearch::kResolution))
        positions.push_back(static_cast<std::int16_t>(value));
    return positions;
}

std::int64_t cost_of(std::int16_t position, std::int32_t level, std::int32_t odd_penalty) {
    const std::int64_t distance = position - std::int64_t{TrellisSearch::kResolution} * level;
    return distance * distance + (level % 2 != 0 ? odd_penalty : 0);
}

/// Of all paths from `state`.
std::int64_t least_cost(std::span<const std::int16_t> positions, unsigned state, std::int32_t odd_penalty) {
    if (positions.empty())
        return 0;
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    for (const unsigned half : {0U, 1U}) {
        const auto subset = static_cast<std::int32_t>(2 * half + trellis_parity(state));
        std::int64_t nearest = std::numeric_limits<std::int64_t>::max();
        for (std::int32_t level = subset - 40; level <= subset + 40; level += 4)
            nearest = std::min(nearest, cost_of(positions[0], level, odd_penalty));
        least = std::min(least, nearest + least_cost(positions.subspan(1), trellis_next(state, half), odd_penalty));
    }
    return least;
}

/// Where the levels lead from `state`; fails unless the trellis allows them.
unsigned follow(std::span<const std::int16_t> levels, unsigned state) {
    for (const std::int16_t level : levels) {
        REQUIRE((static_cast<unsigned>(level) & 1U) == trellis_parity(state));
        state = trellis_next(state, (static_cast<unsigned>(level) >> 1) & 1U);
    }
    return state;
}

}  // namespace

TEST_SUITE("transport/detail/trellis") {
    TEST_CASE("two branches leave a state and two enter it") {
        std::vector<int> entered(kTrellisStates);
        for (unsigned state = 0; state < kTrellisStates; ++state)
            for (const unsigned half : {0U, 1U})
                ++entered[trellis_next(state, half)];
        CHECK(entered == std::vector<int>(kTrellisStates, 2));
    }

    TEST_CASE("the search finds the least cost of all paths") {
        for (const std::int32_t penalty : {0, 60, -45})
            for (std::uint32_t seed = 0; seed < 20; ++seed) {
                const auto positions = positions_of(10, seed, 3);
                std::vector<std::int16_t> levels(positions.size());
                TrellisSearch(penalty).next(positions, levels);
                follow(levels, 0);
                std::int64_t cost = 0;
                for (std::size_t i = 0; i < levels.size(); ++i)
                    cost += cost_of(positions[i], levels[i], penalty);
                CHECK(cost == least_cost(positions, 0, penalty));
            }
    }

    TEST_CASE("blocks of any size follow each other along one path") {
        const auto positions = positions_of(6000, 1, 2);
        std::vector<std::int16_t> levels(positions.size());
        TrellisSearch search(5);
        std::size_t done = 0;
        for (const std::size_t count : {1U, 2048U, 7U, 1000U, 2048U, 896U}) {
            search.next(std::span(positions).subspan(done, count), std::span(levels).subspan(done, count));
            done += count;
        }
        CHECK(done == positions.size());
        follow(levels, 0);
        double error = 0;
        for (std::size_t i = 0; i < levels.size(); ++i)
            error += std::pow(positions[i] / 16.0 - levels[i], 2);
        CHECK(error / static_cast<double>(done) < 0.27);  // of a uniform quantizer with every second integer: 1/3
    }
}
