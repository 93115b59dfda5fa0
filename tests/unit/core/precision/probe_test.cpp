#include "core/precision/probe.hpp"

#include "tests/unit/core/schema_of.hpp"

#include <doctest/doctest.h>

using namespace dither;

TEST_SUITE("core/precision/probe") {
    TEST_CASE("work is counted from what is asked for and from the layers that have products") {
        const Schema schema = schema_of({{.count = 10, .macs = 100}, {.count = 4}, {.count = 20, .macs = 300}});
        CHECK(probe_work(schema, Probe::none) == ProbeWork{});
        CHECK(probe_work(schema, Probe::curvature) == ProbeWork{.forwards = 1, .gradients = 6});
        CHECK(probe_work(schema, Probe::curvature_norm) ==
              ProbeWork{.forwards = 1, .gradients = 6 * CurvatureProbe::kPowerIterations});
        CHECK(probe_work(schema, Probe::curvature_norm | Probe::curvature) ==
              probe_work(schema, Probe::curvature_norm));
        CHECK(probe_work(schema, Probe::sensitivity) == ProbeWork{.gradients = 5});
        CHECK(probe_work(schema, Probe::sensitivity | Probe::curvature) == ProbeWork{.forwards = 1, .gradients = 11});
    }

    TEST_CASE("a client measures on as many samples as its training pays for, within bounds") {
        constexpr std::size_t kMost = 32;
        const Schema few = schema_of({{.count = 1, .macs = 1}, {.count = 1, .macs = 1}});
        const Schema many = schema_of(std::vector<LayerSize>(12, {.count = 1, .macs = 1}));
        CHECK(probe_samples(few, Probe::sensitivity, 100'000, 64, kMost) == kMost);
        CHECK(probe_samples(few, Probe::sensitivity, 100'000, 20, kMost) == 20);  // never more than a batch
        CHECK(probe_samples(few, Probe::sensitivity, 1, 64, kMost) == kLeastProbeSamples);
        CHECK(probe_samples(few, Probe::sensitivity, 1, 4, kMost) == 4);
        const std::size_t samples = probe_samples(many, Probe::sensitivity, 600, 32, kMost);
        CHECK(samples < kMost);
        CHECK(samples > kLeastProbeSamples);
        const double gradients = static_cast<double>(samples) * probe_work(many, Probe::sensitivity).gradients;
        CHECK(gradients <= kProbeShare * 600);
        CHECK(probe_samples(many, Probe::sensitivity, 1200, 32, kMost) > samples);
        CHECK(probe_samples(many, Probe::sensitivity | Probe::curvature, 600, 32, kMost) < samples);
    }
}
