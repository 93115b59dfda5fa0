#include "tests/unit/core/precision/policy_run.hpp"

#include <doctest/doctest.h>
#include <vector>

using namespace dither;

namespace {

LayerStatistics range_of(float range) {
    LayerStatistics s;
    s.update_range = range;
    return s;
}

}  // namespace

TEST_SUITE("core/precision/policies/range") {
    TEST_CASE("each halving of a layer's updates takes a bit from its uplink, and from nothing else") {
        PolicyRun run({.policy = "range", .bits = 8}, 2);
        CHECK(run.policy().rules_uplink());
        CHECK(run.bits() == LayerBits{.forward = 8, .backward = 8, .optimizer = 8, .uplink = 8});
        CHECK(run.see({range_of(0.5F), range_of(4)}).empty());
        const auto changes = run.see({range_of(0.1F), range_of(4)});
        CHECK(run.bits(0) == LayerBits{.forward = 8, .backward = 8, .optimizer = 8, .uplink = 6});
        CHECK(run.bits(1).uplink == 8);
        REQUIRE(changes.size() == 1);
        CHECK(changes[0].phase == Phase::uplink);
        CHECK(changes[0].reason == "range/resolution = 0.2/0.00391 -> 5.68 bits");
        run.see({range_of(1e-9F), range_of(4)});
        CHECK(run.bits(0).uplink == 2);
        run.see({range_of(1e9F), range_of(4)});
        CHECK(run.bits(0).uplink == 16);
    }

    TEST_CASE("a layer that did not move, or said nothing, keeps its bits") {
        PolicyRun run({.policy = "range", .bits = 8}, 1);
        CHECK(run.see({range_of(0)}).empty());
        CHECK(run.see({LayerStatistics{}}).empty());
        CHECK(run.see({range_of(3)}).empty());
        CHECK(run.see({range_of(0)}).empty());
    }

    TEST_CASE("local phases run at precision.bits, raised to a level") {
        PolicyRun run({.policy = "range", .bits = 6}, schema_of({{.count = 1, .macs = 1}, {.count = 1, .macs = 0}}));
        CHECK(run.bits(0) == LayerBits{.forward = 8, .backward = 8, .optimizer = 8, .uplink = 6});
        CHECK(run.bits(1).uplink == 16);
        run.see({range_of(1), range_of(1)});
        run.see({range_of(0.1F), range_of(0.1F)});
        CHECK(run.bits(1).uplink == 16);
        run.plan().layers[0].forward = 16;  // an alarm
        run.see({range_of(0.1F), range_of(0.1F)});
        CHECK(run.bits(0).forward == 8);
    }
}
