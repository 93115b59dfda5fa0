#include "aggregator/sampling.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <string>

#include <doctest/doctest.h>
#include <rapidcheck.h>

using namespace dither;

namespace {

FederationOptions federation_of(std::uint32_t clients, const std::string& sampling) {
    FederationOptions federation;
    federation.clients = clients;
    federation.sampling = sampling;
    return federation;
}

bool anybody(std::uint32_t) {
    return true;
}

}  // namespace

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

    TEST_CASE("weights are found where they lie, and come out and go back in") {
        WeightTree tree({3, 0, 5, 1, 0, 0, 7});
        CHECK(tree.total() == 16);
        const auto items = [&] {
            std::vector<std::uint32_t> found;
            for (std::uint64_t position = 0; position < tree.total(); ++position)
                found.push_back(tree.item_at(position));
            return found;
        };
        const std::vector<std::uint32_t> all{0, 0, 0, 2, 2, 2, 2, 2, 3, 6, 6, 6, 6, 6, 6, 6};
        CHECK(items() == all);
        CHECK(tree.weight_of(2) == 5);
        tree.take_out(2, 5);
        tree.take_out(6, 7);
        CHECK(tree.weight_of(2) == 0);
        CHECK(items() == std::vector<std::uint32_t>{0, 0, 0, 3});
        tree.put_back(6, 7);
        tree.put_back(2, 5);
        CHECK(items() == all);
    }

    TEST_CASE("clients are drawn one after the other, in proportion to their samples among those that are left") {
        // Chi-square over the 12 ordered pairs of 4 clients, 11 degrees of freedom: 31.3 is exceeded once in a
        // thousand seeds.
        constexpr std::uint32_t kDraws = 20'000;
        constexpr std::array<double, 4> kSamples{10, 20, 30, 40};
        ClientSampler sampler(federation_of(4, "samples"), 3, [](std::uint32_t client) { return 10 * (client + 1); });
        std::map<std::vector<std::uint32_t>, int> counts;
        for (std::uint32_t draw = 0; draw < kDraws; ++draw)
            ++counts[sampler.draw(1, draw, 2, anybody)];
        CHECK(counts.size() == 12);
        double chi_square = 0;
        for (const auto& [pair, count] : counts) {
            const double first = kSamples[pair[0]];
            const double expected = kDraws * first / 100 * kSamples[pair[1]] / (100 - first);
            chi_square += (count - expected) * (count - expected) / expected;
        }
        CHECK(chi_square < 31.3);
    }

    TEST_CASE("only those that are eligible are drawn, all of them where as many are wanted, with the right chances") {
        constexpr std::uint32_t kDraws = 6000;
        for (const char* sampling : {"uniform", "samples"}) {
            CAPTURE(sampling);
            ClientSampler sampler(federation_of(1000, sampling), 5, [](std::uint32_t client) { return client + 1; });
            const auto few = [](std::uint32_t client) { return client >= 200 && client < 203; };
            std::map<std::uint32_t, double> first;
            for (std::uint32_t draw = 0; draw < kDraws; ++draw) {
                const auto drawn = sampler.draw(2, draw, 5, few);
                CHECK(std::set(drawn.begin(), drawn.end()) == std::set<std::uint32_t>{200, 201, 202});
                CHECK(drawn == sampler.draw(2, draw, 5, few));
                ++first[drawn[0]];
            }
            for (const auto& [client, count] : first)  // 201, 202 and 203 samples: a third each, within the tolerance
                CHECK(std::abs(count - kDraws / 3.0) < 4 * std::sqrt(kDraws * 2 / 9.0) + 15);
            CHECK(sampler.draw(2, 0, 5, [](std::uint32_t) { return false; }).empty());
        }
    }

    TEST_CASE("a draw depends on the round and on its number, and not on the draws before") {
        for (const char* sampling : {"uniform", "samples"}) {
            CAPTURE(sampling);
            ClientSampler sampler(federation_of(500, sampling), 5, [](std::uint32_t client) { return client + 1; });
            const auto drawn = sampler.draw(2, 1, 20, anybody);
            CHECK(sampler.draw(2, 2, 20, anybody) != drawn);
            CHECK(sampler.draw(3, 1, 20, anybody) != drawn);
            CHECK(sampler.draw(2, 1, 20, anybody) == drawn);
            CHECK(std::set(drawn.begin(), drawn.end()).size() == 20);
        }
    }
}
