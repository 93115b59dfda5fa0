#include "core/error.hpp"
#include "tests/unit/core/precision/policy_run.hpp"

#include <doctest/doctest.h>
#include <limits>

using namespace dither;

TEST_SUITE("core/precision/policies/constant") {
    TEST_CASE("uniform comes back to its bits after an alarm has raised them") {
        PolicyRun uniform({.policy = "uniform", .bits = 8, .backward_bits = 4}, 2);
        const LayerBits own = uniform.bits(1);
        uniform.plan().layers[1] = {.forward = 16, .backward = 8, .optimizer = 16};
        CHECK(uniform.see({LayerStatistics{}, LayerStatistics{}}).size() == 3);
        CHECK(uniform.bits(1) == own);
        CHECK(uniform.see({LayerStatistics{}, LayerStatistics{}}).empty());
    }

    TEST_CASE("fp32 and uniform never move") {
        PolicyRun fp32({.policy = "fp32"}, 2);
        CHECK(fp32.plan() == PrecisionPlan::uniform(2, 32));
        PolicyRun uniform({.policy = "uniform", .bits = 8}, 2);
        CHECK(uniform.bits(1) == LayerBits{.forward = 8, .backward = 8, .optimizer = 8, .uplink = 32, .downlink = 32});
        LayerStatistics loud;
        for_each_statistic(loud, [](const char*, float& value, Combine) { value = 1e9F; });
        CHECK(uniform.see({loud, loud}, std::numeric_limits<double>::quiet_NaN()).empty());
        CHECK(uniform.bits(0).forward == 8);
        CHECK(uniform.policy().probe() == Probe::none);
    }

    TEST_CASE("uniform's backward pass may have bits of its own, the optimizer has the wider ones") {
        PolicyRun narrow({.policy = "uniform", .bits = 8, .backward_bits = 4}, 1);
        CHECK(narrow.bits() == LayerBits{.forward = 8, .backward = 4, .optimizer = 8});
        PolicyRun wide({.policy = "uniform", .bits = 4, .backward_bits = 16}, 1);
        CHECK(wide.bits() == LayerBits{.forward = 4, .backward = 16, .optimizer = 16});
        PolicyRun alike({.policy = "uniform", .bits = 4}, 1);
        CHECK(alike.bits() == LayerBits{.forward = 4, .backward = 4, .optimizer = 4});
    }

    TEST_CASE("uniform's bits must be levels") {
        CHECK_THROWS_WITH_AS(make_policy({.policy = "uniform", .bits = 5}, layers(1)),
                             doctest::Contains("precision.bits = 5"), InputError);
        CHECK_THROWS_WITH_AS(make_policy({.policy = "uniform", .bits = 8, .backward_bits = 6}, layers(1)),
                             doctest::Contains("precision.backward_bits = 6"), InputError);
    }

    TEST_CASE("mixed precision multiplies forward at 16 bits and leaves the rest at fp32") {
        PolicyRun amp({.policy = "amp"}, schema_of({{.count = 1, .macs = 1}, {.count = 1, .macs = 0}}));
        CHECK(amp.bits(0) == LayerBits{.forward = 16});
        CHECK(amp.bits(1) == LayerBits{});
        CHECK(amp.see({LayerStatistics{}, LayerStatistics{}}).empty());
        CHECK_THROWS_WITH_AS(make_policy({.policy = "amp", .levels = {4, 8, 32}}, layers(1)),
                             doctest::Contains("\"amp\" needs 16"), InputError);
    }
}
