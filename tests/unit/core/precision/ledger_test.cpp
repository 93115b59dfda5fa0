#include "core/precision/ledger.hpp"

#include "core/error.hpp"
#include "tests/unit/core/schema_of.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

using namespace dither;

namespace {

Schema two_layers() {
    return schema_of({{.count = 6, .macs = 100}, {.count = 4, .macs = 300}});
}

}  // namespace

TEST_SUITE("core/precision/ledger") {
    TEST_CASE("forward work counts once, backward twice, each with its own bits") {
        PrecisionPlan plan = PrecisionPlan::uniform(2, 32);
        plan.layers[0] = {.forward = 8, .backward = 4, .optimizer = 16};
        const BitOps ops = count_bit_ops(two_layers(), plan, 10, 3);
        CHECK(ops.training == (8 * 2 * 100 + 4 * 4 * 100) * 10 + (32 * 2 * 300 + 32 * 4 * 300) * 10);
        CHECK(ops.training_fp32 == 32 * 6 * 400 * 10);
        CHECK(ops.optimizer == 16 * 2 * 6 * 3 + 32 * 2 * 4 * 3);
        CHECK(ops.optimizer_fp32 == 32 * 2 * 10 * 3);
    }

    TEST_CASE("a uniform plan costs its share of fp32") {
        const BitOps ops = count_bit_ops(two_layers(), PrecisionPlan::uniform(2, 8), 1000, 30);
        CHECK(ops.training / ops.training_fp32 == 0.25);
        CHECK(ops.optimizer / ops.optimizer_fp32 == 0.25);
        CHECK(mean_bits(two_layers(), PrecisionPlan::uniform(2, 8)) == 8);
    }

    TEST_CASE("8 bits forward and 4 backward are 16 / 3 bits in the mean") {
        PrecisionPlan plan = PrecisionPlan::uniform(2, 8);
        for (LayerBits& bits : plan.layers)
            bits.backward = 4;
        CHECK(mean_bits(two_layers(), plan) == doctest::Approx(16.0 / 3));
    }

    TEST_CASE("BOPs charge a product for both of its operands") {
        PrecisionPlan plan = PrecisionPlan::uniform(2, 32);
        plan.layers[0] = {.forward = 8, .backward = 4};
        const BitOps ops = count_bit_ops(two_layers(), plan, 10, 3);
        CHECK(ops.bops == (8 * 8 * 100 + 4 * 4 * 2 * 100) * 10 + 32 * 32 * 3 * 300 * 10);
        CHECK(ops.bops_fp32 == 32 * 32 * 3 * 400 * 10);
        const BitOps eight = count_bit_ops(two_layers(), PrecisionPlan::uniform(2, 8), 10, 3);
        CHECK(eight.bops / eight.bops_fp32 == 1.0 / 16);
    }

    TEST_CASE("the layers' work sums to the whole") {
        PrecisionPlan plan = PrecisionPlan::uniform(2, 8);
        plan.layers[1] = {.forward = 4, .backward = 16, .optimizer = 16};
        CHECK(layer_bit_ops(two_layers(), plan, 1, 10, 3) ==
              LayerBitOps{.forward = 4 * 2 * 300 * 10, .backward = 16 * 4 * 300 * 10, .optimizer = 16 * 2 * 4 * 3});
        BitOps sum;
        for (std::size_t layer = 0; layer < 2; ++layer) {
            const LayerBitOps ops = layer_bit_ops(two_layers(), plan, layer, 10, 3);
            sum.training += ops.forward + ops.backward;
            sum.optimizer += ops.optimizer;
        }
        const BitOps whole = count_bit_ops(two_layers(), plan, 10, 3);
        CHECK(sum.training == whole.training);
        CHECK(sum.optimizer == whole.optimizer);
        CHECK_THROWS_AS(layer_bit_ops(two_layers(), plan, 2, 1, 1), PreconditionError);
    }

    TEST_CASE("work adds up over any split of samples and steps") {
        CHECK(rc::check(
            [](std::uint32_t samples_a, std::uint32_t samples_b, std::uint16_t steps_a, std::uint16_t steps_b) {
                PrecisionPlan plan = PrecisionPlan::uniform(2, 8);
                plan.layers[1].backward = 4;
                BitOps sum = count_bit_ops(two_layers(), plan, samples_a, steps_a);
                sum += count_bit_ops(two_layers(), plan, samples_b, steps_b);
                return sum == count_bit_ops(two_layers(), plan, std::uint64_t{samples_a} + samples_b,
                                            std::uint64_t{steps_a} + steps_b);
            }));
    }

    TEST_CASE("a measurement of curvature costs a forward pass and two gradients a layer at 32 bits") {
        // 400 MACs a sample, 10 samples: 8000 FLOPs forward, 24000 a gradient; 2 layers.
        CHECK(probe_bit_ops(two_layers(), Probe::none, 10) == 0);
        CHECK(probe_bit_ops(two_layers(), Probe::curvature, 10) == 32 * (8000 + 4 * 24000));
        CHECK(probe_bit_ops(two_layers(), Probe::curvature_norm, 10) == 32 * (8000 + 32 * 24000));
    }

    TEST_CASE("the cost of measurements adds up apart from training") {
        BitOps sum{.training = 1, .probe = 2, .bops = 3};
        sum += BitOps{.probe = 3, .bops = 4, .bops_fp32 = 5};
        CHECK(sum == BitOps{.training = 1, .probe = 5, .bops = 7, .bops_fp32 = 5});
    }

    TEST_CASE("a plan for another number of layers is refused") {
        CHECK_THROWS_AS(count_bit_ops(two_layers(), PrecisionPlan::uniform(3, 8), 1, 1), PreconditionError);
    }
}
