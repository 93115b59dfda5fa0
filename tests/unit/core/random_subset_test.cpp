#include "core/random_subset.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <vector>

using namespace dither;

TEST_SUITE("core/random_subset") {
    TEST_CASE("a subset has so many different numbers below the bound, ascending") {
        CHECK(rc::check([](const std::uint32_t seed) {
            const auto bound = *rc::gen::inRange<std::uint32_t>(0, 300);
            const auto count = *rc::gen::inRange<std::uint32_t>(0, bound + 1);
            Stream stream({.seed = seed});
            const std::vector<std::uint32_t> subset = random_subset(stream, bound, count);
            RC_ASSERT(subset.size() == count);
            RC_ASSERT(std::ranges::adjacent_find(subset, std::greater_equal()) == subset.end());
            RC_ASSERT(std::ranges::all_of(subset, [bound](std::uint32_t number) { return number < bound; }));
        }));
    }

    TEST_CASE("every subset of a size has the same chance") {
        std::map<std::vector<std::uint32_t>, int> seen;
        constexpr int kDraws = 20'000;
        Stream stream({.seed = 5});
        for (int i = 0; i < kDraws; ++i)
            ++seen[random_subset(stream, 5, 2)];
        REQUIRE(seen.size() == 10);
        double chi_square = 0;
        for (const auto& [subset, times] : seen)
            chi_square += (times - kDraws / 10.0) * (times - kDraws / 10.0) / (kDraws / 10.0);
        CHECK(chi_square < 27.9);  // 9 degrees of freedom: 0.1 %
    }

    TEST_CASE("few of many and many of few are drawn alike") {
        for (const std::uint32_t count : {1U, 39U, 40U, 9'999U, 10'000U}) {
            CAPTURE(count);
            Stream stream({.seed = count}), again({.seed = count});
            std::set<std::uint32_t> floyd;
            for (std::uint32_t last = 10'000 - count; last < 10'000; ++last)
                if (!floyd.insert(again.below(last + 1)).second)
                    floyd.insert(last);
            CHECK(random_subset(stream, 10'000, count) == std::vector<std::uint32_t>(floyd.begin(), floyd.end()));
        }
    }

    TEST_CASE("more numbers than there are is a broken precondition") {
        Stream stream({});
        CHECK_THROWS_AS(random_subset(stream, 3, 4), PreconditionError);
    }
}
