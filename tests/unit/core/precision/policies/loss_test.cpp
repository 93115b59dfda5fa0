#include "tests/unit/core/precision/policy_run.hpp"

#include <doctest/doctest.h>
#include <limits>
#include <vector>

using namespace dither;

namespace {

const std::vector<LayerStatistics> kOne(1);
const PrecisionOptions kLoss{.policy = "loss", .levels = {4, 8, 16, 32}, .smoothing = 1};

}  // namespace

TEST_SUITE("core/precision/policies/loss") {
    TEST_CASE("a loss that falls to a quarter doubles the steps: one more bit on the uplink") {
        PolicyRun run(kLoss, 1);
        CHECK(run.policy().rules_uplink());
        CHECK(run.policy().probe() == Probe::none);
        CHECK(run.bits() == LayerBits{.forward = 4, .backward = 4, .optimizer = 8, .uplink = 4});
        CHECK(run.see(kOne, 2.0).empty());
        const auto changes = run.see(kOne, 0.5);
        CHECK(run.bits() == LayerBits{.forward = 8, .backward = 8, .optimizer = 8, .uplink = 5});
        REQUIRE(changes.size() == 3);
        CHECK(changes[0].reason == "s_0 sqrt(F_0/F) = 7 sqrt(2/0.5) = 14 -> 4.91 bits");
        run.see(kOne, 2.0 / 256);
        CHECK(run.bits().uplink == 8);  // 7 * 16 = 112 steps and the sign
        CHECK(run.bits().forward == 8);
    }

    TEST_CASE("a loss that rises again takes bits back") {
        PolicyRun run(kLoss, 1);
        run.see(kOne, 1);
        run.see(kOne, 0.01);
        CHECK(run.bits().uplink == 8);
        run.see(kOne, 1);
        CHECK(run.bits().uplink == 5);  // exactly 4 bits would do, but without the quarter of a bit to spare
        run.see(kOne, 1.5);
        CHECK(run.bits() == LayerBits{.forward = 4, .backward = 4, .optimizer = 8, .uplink = 4});
    }

    TEST_CASE("a loss of zero asks for all bits, one that is no number for none") {
        PolicyRun run(kLoss, 1);
        run.see(kOne, 1);
        CHECK(run.see(kOne, std::numeric_limits<double>::quiet_NaN()).empty());
        CHECK(run.see(kOne, 1).empty());
        run.see(kOne, 0);
        CHECK(run.bits() == LayerBits{.forward = 32, .backward = 32, .optimizer = 32, .uplink = 16});
    }

    TEST_CASE("a norm's updates travel in the widest codes") {
        PolicyRun run(kLoss, schema_of({{.count = 1, .macs = 0}}));
        CHECK(run.bits().uplink == 16);
        run.see(kOne, 1);
        run.see(kOne, 0.1);
        CHECK(run.bits().uplink == 16);
    }
}
