#include "tests/unit/core/precision/policy_run.hpp"

#include <doctest/doctest.h>
#include <limits>
#include <vector>

using namespace dither;

namespace {

const std::vector<LayerStatistics> kOne(1);
const PrecisionOptions kPlateau{.policy = "plateau", .levels = {4, 8, 16, 32}, .smoothing = 1};

}  // namespace

TEST_SUITE("core/precision/policies/plateau") {
    TEST_CASE("while the loss falls the bits stay at the lowest level") {
        PolicyRun run(kPlateau, 1);
        CHECK(run.policy().rules_uplink());
        for (int round = 0; round < 30; ++round)
            CHECK(run.see(kOne, 1.0 / (1 + round)).empty());
        CHECK(run.bits() == LayerBits{.forward = 4, .backward = 4, .optimizer = 8, .uplink = 4});
    }

    TEST_CASE("five rounds without progress raise by a level, and the uplink by a bit") {
        PolicyRun run(kPlateau, 1);
        for (int round = 0; round < 5; ++round)
            CHECK(run.see(kOne, 1).empty());
        const auto changes = run.see(kOne, 1);
        CHECK(run.bits() == LayerBits{.forward = 8, .backward = 8, .optimizer = 8, .uplink = 5});
        REQUIRE(changes.size() == 3);
        CHECK(changes[0].reason == "F = 1 >= 1 5 rounds ago -> raise 1");
        for (int round = 0; round < 4; ++round)
            CHECK(run.see(kOne, 1).empty());
        run.see(kOne, 1);
        CHECK(run.bits() == LayerBits{.forward = 16, .backward = 16, .optimizer = 16, .uplink = 6});
    }

    TEST_CASE("bits end at 32, those of the uplink at 16") {
        PolicyRun run(kPlateau, 1);
        for (int round = 0; round < 100; ++round)
            run.see(kOne, 1);
        CHECK(run.bits() == LayerBits{.forward = 32, .backward = 32, .optimizer = 32, .uplink = 16});
    }

    TEST_CASE("a loss that is no number does not count") {
        PolicyRun run(kPlateau, 1);
        for (int round = 0; round < 20; ++round)
            CHECK(run.see(kOne, std::numeric_limits<double>::quiet_NaN()).empty());
    }
}
