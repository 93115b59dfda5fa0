#include "core/precision/device.hpp"

#include "core/config.hpp"
#include "core/error.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <vector>

using namespace dither;

namespace {

/// Layers "fc1", ... of 100 trained parameters each that keep so many inputs.
Schema keeping(const std::vector<double>& inputs) {
    std::vector<LayerSpec> layers;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const std::size_t offset = 100 * i;
        layers.push_back({.name = "fc" + std::to_string(i + 1),
                          .offset = offset,
                          .count = 100,
                          .tensors = {{.name = "weight", .shape = {1, 100}, .offset = offset}},
                          .macs = 100,
                          .inputs = inputs[i]});
    }
    return Schema(std::move(layers));
}

PrecisionPlan plan_of(std::vector<LayerBits> layers) {
    return {std::move(layers)};
}

std::uint64_t parameter_bytes(const Schema& schema) {
    return 16 * schema.parameters();
}

}  // namespace

TEST_SUITE("core/precision/device") {
    TEST_CASE("a width that a device does not execute rises to the next, and falls only where there is none") {
        const Schema schema = keeping({10, 10});
        const PrecisionPlan plan = plan_of({{.forward = 4, .backward = 8, .optimizer = 2, .uplink = 3, .downlink = 5},
                                            {.forward = 32, .backward = 16, .optimizer = 9, .uplink = 7}});
        const PrecisionPlan fitted = fit(plan, {.widths = {6, 8, 16}}, schema, 1);
        CHECK(fitted.layers[0] == LayerBits{.forward = 6, .backward = 8, .optimizer = 6, .uplink = 3, .downlink = 5});
        CHECK(fitted.layers[1] == LayerBits{.forward = 16, .backward = 16, .optimizer = 16, .uplink = 7});
        CHECK(fit(fitted, {.widths = {6, 8, 16}}, schema, 1) == fitted);
    }

    TEST_CASE("a device that executes everything runs the plan as it is") {
        const Schema schema = keeping({1e6});
        const PrecisionPlan plan = plan_of({{.forward = 3, .backward = 5, .optimizer = 7}});
        CHECK(fit(plan, {}, schema, 1 << 20) == plan);
    }

    TEST_CASE("memory is that of parameters, and of inputs in bytes where the backward pass has codes") {
        const Schema schema = keeping({1000, 10, 0});
        PrecisionPlan plan = PrecisionPlan::uniform(3, 16);
        CHECK(step_memory(schema, plan, 32) == parameter_bytes(schema) + 32 * 4 * 1010);
        plan.layers[0].backward = 8;
        CHECK(step_memory(schema, plan, 32) == parameter_bytes(schema) + 32 * (1000 + 4 * 10));
    }

    TEST_CASE("where memory is short, the layers that keep most take codes backward, and no more than needed") {
        const Schema schema = keeping({10, 1000, 100});
        const PrecisionPlan plan = PrecisionPlan::uniform(3, 16);
        const std::uint64_t whole = step_memory(schema, plan, 4);
        CHECK(fit(plan, {.memory = whole}, schema, 4) == plan);
        const PrecisionPlan first = fit(plan, {.memory = whole - 1}, schema, 4);
        CHECK(first.layers[1] ==
              LayerBits{.forward = 16, .backward = 8, .optimizer = 16, .uplink = 16, .downlink = 16});
        CHECK(first.layers[0] == plan.layers[0]);
        CHECK(first.layers[2] == plan.layers[2]);
        const PrecisionPlan second =
            fit(plan, {.widths = {5, 16}, .memory = step_memory(schema, first, 4) - 1}, schema, 4);
        CHECK(second.layers[1].backward == 5);
        CHECK(second.layers[2].backward == 5);
        CHECK(second.layers[0].backward == 16);
    }

    TEST_CASE("a device too small for the model gets the plan that takes least") {
        const Schema schema = keeping({10, 1000});
        const PrecisionPlan plan = PrecisionPlan::uniform(2, 32);
        const PrecisionPlan fitted = fit(plan, {.memory = 1}, schema, 4);
        CHECK(fitted.layers[0].backward == 8);
        CHECK(fitted.layers[1].backward == 8);
        CHECK(fitted.layers[1].forward == 32);
        CHECK(fit(plan, {.widths = {16, 32}, .memory = 1}, schema, 4) == plan);
    }

    TEST_CASE("what two devices have in common is the widths of both, the smaller memory and the lower speed") {
        const Device one{.widths = {2, 4, 8, 32}, .memory = 100, .speed = 3};
        const Device other{.widths = {4, 6, 32}, .memory = 50, .speed = 5};
        CHECK(common(one, other) == Device{.widths = {4, 32}, .memory = 50, .speed = 3});
        CHECK(common(one, {}) == one);
        CHECK(common({}, other) == other);
        CHECK(common({.widths = {4}}, {.widths = {8, 16}}).widths == std::vector{8, 16});
    }

    TEST_CASE("bits that the job fixes must be among a device's own") {
        const std::vector<int> widths{4, 32};
        QuantizeOptions quantize;
        CHECK(executes_fixed_bits(widths, quantize));
        quantize.weights.bits = 4;
        CHECK(executes_fixed_bits(widths, quantize));
        quantize.layers = {{.match = "conv1", .settings = {{"optimizer_bits", "8"}}}};
        CHECK_FALSE(executes_fixed_bits(widths, quantize));
        CHECK(executes_fixed_bits({}, quantize));
        quantize.layers.clear();
        quantize.activations.bits = 8;
        CHECK_FALSE(executes_fixed_bits(widths, quantize));
    }

    TEST_CASE("clients are dealt to devices by their shares, the same in every run") {
        const std::vector<DeviceOptions> devices{{.share = 0.2, .widths = {4, 8}, .memory = 1000},
                                                 {.share = 0.3, .widths = {32}, .memory = 0}};
        constexpr std::uint32_t kClients = 20000;
        std::uint32_t first = 0;
        std::uint32_t second = 0;
        for (std::uint32_t client = 0; client < kClients; ++client) {
            const Device device = device_of(devices, 7, client);
            CHECK(device == device_of(devices, 7, client));
            first += device == Device{.widths = {4, 8}, .memory = 1000} ? 1 : 0;
            second += device == Device{.widths = {32}} ? 1 : 0;
        }
        const auto near_share = [](std::uint32_t count, double share) {  // within four standard deviations
            return std::abs(count - share * kClients) < 4 * std::sqrt(share * (1 - share) * kClients);
        };
        CHECK(near_share(first, 0.2));
        CHECK(near_share(second, 0.3));
        CHECK(device_of({}, 7, 3) == Device{});
    }

    TEST_CASE("shares that sum to one leave nobody out") {
        const std::vector<DeviceOptions> devices{{.share = 0.7, .widths = {8}, .memory = 0},
                                                 {.share = 0.2, .widths = {8}, .memory = 0},
                                                 {.share = 0.1, .widths = {8}, .memory = 0}};
        for (std::uint32_t client = 0; client < 1000; ++client)
            CHECK(device_of(devices, 1, client).widths == std::vector{8});
    }

    TEST_CASE("a plan of another model is a defect of the caller") {
        CHECK_THROWS_AS(fit(PrecisionPlan::uniform(2, 8), {}, keeping({1}), 1), PreconditionError);
        CHECK_THROWS_AS(step_memory(keeping({1}), PrecisionPlan::uniform(2, 8), 1), PreconditionError);
    }
}
