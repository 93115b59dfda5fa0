#include "aggregator/sampling.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <map>

#include <doctest/doctest.h>
#include <rapidcheck.h>

using namespace dither;

TEST_SUITE("aggregator/sampling") {
    TEST_CASE("a sample has the right number of different clients, ascending and in range") {
        CHECK(rc::check([] {
            const auto clients = *rc::gen::inRange<std::uint32_t>(1, 5000);
            const auto count = *rc::gen::inRange<std::uint32_t>(0, std::min<std::uint32_t>(clients, 200) + 1);
            const auto sample = sample_uniform(clients, count, *rc::gen::arbitrary<std::uint32_t>(), 3);
            RC_ASSERT(sample.size() == count);
            RC_ASSERT(std::is_sorted(sample.begin(), sample.end()));
            RC_ASSERT(std::adjacent_find(sample.begin(), sample.end()) == sample.end());
            RC_ASSERT((sample.empty() || sample.back() < clients));
        }));
    }

    TEST_CASE("a sample depends on the seed and the round and on nothing else") {
        const auto sample = sample_uniform(1000, 10, 1, 1);
        CHECK(sample == sample_uniform(1000, 10, 1, 1));
        CHECK(sample != sample_uniform(1000, 10, 2, 1));
        CHECK(sample != sample_uniform(1000, 10, 1, 2));
        CHECK(sample != sample_uniform(1000, 10, 1, 1, 1));
    }

    TEST_CASE("a product is rounded up, and a whole one is left alone") {
        CHECK(scaled_up(100, 1.1) == 110);
        CHECK(scaled_up(100, 0.07) == 7);
        CHECK(scaled_up(3, 0.1) == 1);
        CHECK(scaled_up(10, 1.5) == 15);
        CHECK(scaled_up(10, 1.0001) == 11);
        CHECK(scaled_up(10, 0) == 0);
        for (std::uint32_t count = 1; count <= 1000; ++count)
            CHECK(scaled_up(count, 0.01) == (count + 99) / 100);
    }

    TEST_CASE("all clients are asked when as many are wanted, and more cannot be wanted") {
        CHECK(sample_uniform(4, 4, 1, 1) == std::vector<std::uint32_t>{0, 1, 2, 3});
        CHECK_THROWS_AS(sample_uniform(4, 5, 1, 1), PreconditionError);
    }

    TEST_CASE("four billion clients cost no more than ten") {
        const auto sample = sample_uniform(4'000'000'000U, 10, 1, 1);
        CHECK(sample.size() == 10);
        CHECK(sample.capacity() < 100);
    }

    TEST_CASE("every subset of three out of six has the same chance") {
        // Chi-square over the 20 subsets, 19 degrees of freedom: 43.8 is exceeded once in a thousand seeds.
        constexpr std::uint32_t kRounds = 20'000;
        for (const std::uint32_t seed : {1U, 2U, 3U}) {
            std::map<std::vector<std::uint32_t>, int> counts;
            for (std::uint32_t round = 1; round <= kRounds; ++round)
                ++counts[sample_uniform(6, 3, seed, round)];
            CHECK(counts.size() == 20);
            double chi_square = 0;
            for (const auto& [subset, count] : counts)
                chi_square += (count - 1000.0) * (count - 1000.0) / 1000.0;
            CAPTURE(seed);
            CHECK(chi_square < 43.8);
        }
    }
}
