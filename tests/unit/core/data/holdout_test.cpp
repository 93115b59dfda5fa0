#include "core/data/holdout.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <numeric>

using namespace dither;

namespace {

std::vector<std::uint32_t> numbered(std::size_t count, std::uint32_t first) {
    std::vector<std::uint32_t> samples(count);
    std::iota(samples.begin(), samples.end(), first);
    return samples;
}

}  // namespace

TEST_SUITE("core/data/holdout") {
    TEST_CASE("a share is rounded down, and one sample at least is left to train on") {
        CHECK(held_out_count(10, 0.3) == 3);  // though 10 * 0.3 is a little less in floating point
        CHECK(held_out_count(10, 0.39) == 3);
        CHECK(held_out_count(60'000, 0.1) == 6000);
        CHECK(held_out_count(1, 0.9) == 0);
        CHECK(held_out_count(2, 0.99) == 1);
        CHECK(held_out_count(0, 0.5) == 0);
        CHECK(held_out_count(10, 0) == 0);
        CHECK(trained_count(10, 0.3) == 7);
        CHECK(trained_count(1, 0.9) == 1);
    }

    TEST_CASE("every sample is either trained or held out, and stays in its order") {
        CHECK(rc::check([](const std::uint32_t seed, const std::uint32_t client) {
            const auto count = *rc::gen::inRange<std::size_t>(1, 200);
            const double share = *rc::gen::element(0.0, 0.01, 0.2, 0.5, 0.999);
            const std::vector<std::uint32_t> samples = numbered(count, 7);
            const LocalSamples local = hold_out(samples, share, seed, client);
            RC_ASSERT(!local.trained.empty());
            RC_ASSERT(local.held_out.size() == held_out_count(count, share));
            RC_ASSERT(std::ranges::is_sorted(local.trained));
            RC_ASSERT(std::ranges::is_sorted(local.held_out));
            std::vector<std::uint32_t> both;
            std::ranges::merge(local.trained, local.held_out, std::back_inserter(both));
            RC_ASSERT(both == samples);
        }));
    }

    TEST_CASE("what is held out is the same whenever it is asked, and differs between clients and seeds") {
        const auto of = [](std::uint32_t seed, std::uint32_t client) {
            return hold_out(numbered(100, 0), 0.2, seed, client).held_out;
        };
        CHECK(of(1, 2) == of(1, 2));
        CHECK(of(1, 2) != of(1, 3));
        CHECK(of(1, 2) != of(2, 2));
    }

    TEST_CASE("without a holdout every sample is trained on") {
        const LocalSamples local = hold_out(numbered(5, 0), 0, 1, 1);
        CHECK(local.trained == numbered(5, 0));
        CHECK(local.held_out.empty());
    }
}
