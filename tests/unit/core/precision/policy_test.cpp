#include "core/precision/policy.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/rng.hpp"
#include "tests/unit/core/schema_of.hpp"

#include <doctest/doctest.h>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace dither;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Schema layers(std::size_t count) {
    return schema_of(std::vector<LayerSize>(count, {.count = 1, .macs = 1}));
}

/// A policy, its plan and the rounds that it has seen.
class Run {
public:
    Run(const PrecisionOptions& options, std::size_t count) : Run(options, layers(count)) {}
    Run(const PrecisionOptions& options, const Schema& schema)
        : policy_(make_policy(options, schema)), plan_(policy_->initial()) {}

    std::vector<PlanChange> see(const std::vector<LayerStatistics>& statistics) {
        return policy_->update({.round = ++round_, .train_loss = 1, .layers = statistics}, plan_);
    }
    void resume(const Run& other) {
        policy_->restore(other.policy_->state());
        plan_ = other.plan_;
        round_ = other.round_;
    }
    const LayerBits& bits(std::size_t layer = 0) const { return plan_.layers[layer]; }
    const PrecisionPlan& plan() const { return plan_; }
    Policy& policy() { return *policy_; }

private:
    std::unique_ptr<Policy> policy_;
    PrecisionPlan plan_;
    std::uint32_t round_ = 0;
};

/// What numgeom's forward rule reads: ratio = h * ||theta|| / s.
LayerStatistics forward_ratio(double ratio) {
    LayerStatistics s;
    s.curvature = static_cast<float>(ratio / 4);
    s.theta_norm = 8;
    s.signal_norm = 2;
    return s;
}

LayerStatistics backward_error(float eps) {
    LayerStatistics s;
    s.backward_error = eps;
    return s;
}

LayerStatistics gradient_of(float norm) {
    LayerStatistics s;
    s.grad_norm = norm;
    return s;
}

LayerStatistics literal(float kappa, float theta, float g, float lipschitz = 1) {
    LayerStatistics s;
    s.curvature_norm = kappa;
    s.theta_norm = theta;
    s.grad_norm = g;
    s.lipschitz = lipschitz;
    return s;
}

const PrecisionOptions kNumGeom{.policy = "numgeom", .smoothing = 1};
const PrecisionOptions kLiteral{.policy = "numgeom_literal"};
/// A level for every width: decisions show their raw bits.
const std::vector<int> kFine{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 32};

}  // namespace

TEST_SUITE("core/precision/policy") {
    TEST_CASE("an unknown policy is named") {
        CHECK_THROWS_WITH_AS(make_policy({.policy = "numgoem"}, layers(1)), doctest::Contains("numgoem"), InputError);
    }

    TEST_CASE("uniform bits must be a level") {
        CHECK_THROWS_WITH_AS(make_policy({.policy = "uniform", .bits = 5}, layers(1)), doctest::Contains("5"),
                             InputError);
        CHECK_THROWS_AS(make_policy({.policy = "fp32", .levels = {8, 4}}, layers(1)), InputError);
    }

    TEST_CASE("fp32 and uniform never move") {
        Run fp32({.policy = "fp32"}, 2);
        CHECK(fp32.plan() == PrecisionPlan::uniform(2, 32));
        Run uniform({.policy = "uniform", .bits = 8}, 2);
        CHECK(uniform.bits(1) == LayerBits{.forward = 8, .backward = 8, .optimizer = 8, .uplink = 32, .downlink = 32});
        CHECK(uniform.see({forward_ratio(1e9), backward_error(kNan)}).empty());
        CHECK(uniform.bits(0).forward == 8);
        CHECK(uniform.policy().probe() == Probe::none);
    }

    TEST_CASE("gradient adds a bit for each halving of the gradient since the first round") {
        Run run({.policy = "gradient", .levels = kFine, .smoothing = 1}, 2);
        CHECK(run.bits() == LayerBits{.forward = 2, .backward = 2, .optimizer = 8});
        CHECK(run.see({gradient_of(3), gradient_of(4)}).empty());
        CHECK_FALSE(run.see({gradient_of(1.5F), gradient_of(2)}).empty());
        CHECK(run.bits(1) == LayerBits{.forward = 3, .backward = 3, .optimizer = 8});
        run.see({gradient_of(0.04F), gradient_of(0.03F)});
        CHECK(run.bits(0) == LayerBits{.forward = 9, .backward = 9, .optimizer = 9});
        run.see({gradient_of(3), gradient_of(4)});
        CHECK(run.bits(0).forward == 3);  // exactly 2 bits would do, but without the quarter of a bit to spare
        run.see({gradient_of(6), gradient_of(8)});
        CHECK(run.bits(0).forward == 2);
    }

    TEST_CASE("gradient smooths the norm") {
        Run run({.policy = "gradient", .levels = kFine, .smoothing = 0.5}, 1);
        run.see({gradient_of(8)});
        run.see({gradient_of(0)});
        CHECK(run.bits().forward == 3);  // 8 -> 4
    }

    TEST_CASE("numgeom starts at 8 bits and stays there while nothing is measured") {
        Run run(kNumGeom, 2);
        CHECK(run.bits() == LayerBits{.forward = 8, .backward = 8, .optimizer = 8});
        CHECK(run.see({LayerStatistics{}, LayerStatistics{}}).empty());
        CHECK(run.policy().probe() == Probe::curvature);
        Run coarse({.policy = "numgeom", .levels = {4, 16, 32}}, 1);
        CHECK(coarse.bits() == LayerBits{.forward = 16, .backward = 16, .optimizer = 16});
    }

    TEST_CASE("numgeom's forward bits grow with log2(h * |theta| / s), plus the margin") {
        PrecisionOptions options = kNumGeom;
        options.levels = kFine;
        for (const int margin : {2, 4})
            for (const int exponent : {-1, 0, 3, 7}) {
                options.margin_bits = margin;
                Run run(options, 1);
                run.see({forward_ratio(std::exp2(exponent - 0.5))});
                CHECK(run.bits().forward == std::max(2, exponent + margin));
            }
        Run run(options, 1);
        run.see({forward_ratio(1e5)});
        CHECK(run.bits().forward == 32);
    }

    TEST_CASE("numgeom lowers the forward bits only with a quarter of a bit to spare") {
        Run run(kNumGeom, 1);
        run.see({forward_ratio(std::exp2(-0.1))});
        CHECK(run.bits().forward == 8);
        run.see({forward_ratio(std::exp2(-0.3))});
        CHECK(run.bits().forward == 4);
        run.see({forward_ratio(std::exp2(-0.1))});
        CHECK(run.bits().forward == 4);
        run.see({forward_ratio(std::exp2(0.1))});
        CHECK(run.bits().forward == 8);
    }

    TEST_CASE("numgeom's backward bits are 4 within the tolerance and follow the error beyond it") {
        PrecisionOptions options = kNumGeom;
        options.levels = kFine;
        options.backward_tolerance = 0.7;
        const auto bits_for = [&](float eps) {
            Run run(options, 1);
            run.see({backward_error(eps)});
            return run.bits().backward;
        };
        CHECK(bits_for(0) == 4);
        CHECK(bits_for(0.1F) == 4);
        CHECK(bits_for(0.69F) == 4);
        CHECK(bits_for(0.71F) == 5);
        CHECK(bits_for(1.0F) == 5);   // 1 + log2(1 + 7 / 0.49) = 4.93
        CHECK(bits_for(2.1F) == 7);   // 1 + log2(64) exactly
        CHECK(bits_for(2.11F) == 8);  // and just above it
        Run coarse(kNumGeom, 1);
        coarse.see({backward_error(0.5F)});
        CHECK(coarse.bits().backward == 4);
        CHECK(coarse.bits().optimizer == 8);
    }

    TEST_CASE("numgeom gives the optimizer the widest of all layers") {
        Run run(kNumGeom, 2);
        run.see({forward_ratio(100), forward_ratio(0.1)});
        CHECK(run.bits(0).forward == 16);
        CHECK(run.bits(1).forward == 4);
        CHECK(run.bits(0).optimizer == 16);
        CHECK(run.bits(1).optimizer == 16);
    }

    TEST_CASE("what is not measured keeps its last value, what is measured is averaged") {
        PrecisionOptions options = kNumGeom;
        options.levels = kFine;
        options.smoothing = 0.5;
        Run run(options, 1);
        run.see({forward_ratio(std::exp2(3.5))});
        CHECK(run.bits().forward == 8);
        CHECK(run.see({LayerStatistics{}}).empty());
        LayerStatistics loud;
        loud.signal_norm = 14;  // 2 -> 8: two bits less
        run.see({loud});
        CHECK(run.bits().forward == 6);
    }

    TEST_CASE("a layer without curvature needs no more than the lowest level, even if its gradient vanished too") {
        Run run({.policy = "numgeom"}, 1);
        LayerStatistics dead = forward_ratio(0.1);
        dead.curvature = dead.signal_norm = 0;
        run.see({dead});
        CHECK(run.bits().forward == 4);
    }

    TEST_CASE("a gradient of zero, and what is not finite, ask for 32 bits until it passes") {
        const float infinity = std::numeric_limits<float>::infinity();
        for (const float bad : {kNan, infinity}) {
            Run run({.policy = "numgeom"}, 1);
            LayerStatistics broken = forward_ratio(0.1);
            broken.curvature = bad;
            const auto changes = run.see({broken});
            CHECK(run.bits().forward == 32);
            REQUIRE(changes.size() == 2);
            CHECK(changes[0].reason.find("inf bits") != std::string::npos);
            run.see({forward_ratio(0.01)});
            CHECK(run.bits().forward == 4);
            CHECK(run.bits().optimizer == 8);
        }
        Run silent({.policy = "numgeom"}, 1);
        LayerStatistics vanished = forward_ratio(0.1);
        vanished.signal_norm = 0;
        silent.see({vanished});
        CHECK(silent.bits().forward == 32);
        Run backward({.policy = "numgeom"}, 1);
        backward.see({backward_error(kNan)});
        CHECK(backward.bits().backward == 32);
    }

    TEST_CASE("changes name the layer, the phase, both widths and the numbers that decided") {
        Run run(kNumGeom, 2);
        LayerStatistics first = forward_ratio(0.1);
        first.backward_error = 0.25F;
        const auto changes = run.see({first, LayerStatistics{}});
        REQUIRE(changes.size() == 2);
        CHECK(changes[0].layer == 0);
        CHECK(changes[0].phase == Phase::forward);
        CHECK(changes[0].from == 8);
        CHECK(changes[0].to == 4);
        CHECK(changes[0].reason == "h*|theta|/s = 0.025*8/2 = 0.1 -> -3.32 bits (+4 margin)");
        CHECK(changes[1].phase == Phase::backward);
        CHECK(changes[1].reason == "eps = 0.25 <= tau = 0.7 -> 4.00 bits");
    }

    TEST_CASE("the published rule runs at fp32 until its warm-up is over") {
        PrecisionOptions options = kLiteral;
        options.warmup_rounds = 3;
        Run run(options, 1);
        CHECK(run.policy().probe() == Probe::curvature_norm);
        const std::vector<LayerStatistics> round{literal(0.1F, 1, 1)};
        CHECK(run.see(round).empty());
        CHECK(run.see(round).empty());
        CHECK(run.bits() == LayerBits{});
        CHECK_FALSE(run.see(round).empty());
        CHECK(run.bits() == LayerBits{.forward = 4, .backward = 4, .optimizer = 4});
    }

    TEST_CASE("the published rule waits for the measurements that it needs") {
        Run run(kLiteral, 1);
        LayerStatistics cheap;
        cheap.theta_norm = 1;
        cheap.grad_norm = 1;
        CHECK(run.see({cheap}).empty());
        CHECK(run.bits().forward == 32);
        LayerStatistics costly;
        costly.curvature_norm = 0.1F;
        costly.lipschitz = 1;
        run.see({costly});
        CHECK(run.bits().forward == 4);
    }

    TEST_CASE("the published rule asks for the bits that its formula gives") {
        // kappa, ||theta|| and ||g|| of a small CNN's conv1, conv2, fc1 and fc2.
        PrecisionOptions options = kLiteral;
        options.levels = kFine;
        Run run(options, 4);
        run.see(
            {literal(0.43F, 5.7F, 0.12F), literal(3.5F, 8.1F, 0.41F), literal(11, 17, 0.96F), literal(6, 3.8F, 0.79F)});
        const std::vector<int> expected{9, 11, 12, 9};
        for (std::size_t i = 0; i < 4; ++i) {
            CHECK(run.bits(i).forward == expected[i]);
            CHECK(run.bits(i).backward == expected[i]);
            CHECK(run.bits(i).optimizer == 12);
        }
    }

    TEST_CASE("the published rule's global bound holds for every layer") {
        PrecisionOptions options = kLiteral;
        options.levels = kFine;
        Run run(options, 2);
        const auto changes = run.see({literal(0.1F, 1, 3, 100), literal(0.1F, 1, 4, 32)});
        CHECK(run.bits(0).forward == 10);  // log2(3200 / 5) = 9.3
        CHECK(run.bits(1).forward == 10);
        CHECK(changes[0].reason == "L_T/|g| = 3.2e+03/5 -> 10 bits");
        run.see({literal(0.1F, 1, 0), literal(0.1F, 1, 0)});
        CHECK(run.bits(0).forward == 32);
    }

    TEST_CASE("a layer without products, such as a norm, keeps its bits and raises nobody else's") {
        const Schema schema = schema_of({{.count = 1, .macs = 1}, {.count = 1, .macs = 0}});
        PrecisionOptions options = kNumGeom;
        options.levels = kFine;
        Run numgeom(options, schema);
        numgeom.see({forward_ratio(1), forward_ratio(1e5)});
        CHECK(numgeom.bits(0).forward < 8);
        for (const Phase phase : {Phase::forward, Phase::backward, Phase::optimizer})
            CHECK(numgeom.bits(1)[phase] == 8);
        options.policy = "numgeom_literal";
        Run published(options, schema);
        published.see({literal(0.1F, 1, 3, 1), literal(1e5F, 1, 4, kNotMeasured)});
        CHECK(published.bits(0) == LayerBits{.forward = 4, .backward = 4, .optimizer = 4});
        CHECK(published.bits(1) == LayerBits{.forward = 32, .backward = 32, .optimizer = 4});
    }

    TEST_CASE("a layer without a Lipschitz constant counts as 1 in the published rule's product") {
        PrecisionOptions options = kLiteral;
        options.levels = kFine;
        Run run(options, 2);
        const auto changes = run.see({literal(0.1F, 1, 3, 3200), literal(0.1F, 1, 4, kNotMeasured)});
        REQUIRE_FALSE(changes.empty());
        CHECK(changes[0].reason == "L_T/|g| = 3.2e+03/5 -> 10 bits");
        CHECK(run.bits(1).forward == 10);
    }

    TEST_CASE("a resumed policy decides as the interrupted one would have") {
        for (const char* name : {"fp32", "uniform", "gradient", "numgeom", "numgeom_literal"}) {
            CAPTURE(name);
            const PrecisionOptions options{.policy = name, .levels = kFine};
            Stream stream({.seed = 5});
            const auto draw = [&] {
                std::vector<LayerStatistics> round(3);
                for (LayerStatistics& s : round)
                    for_each_statistic(s, [&](const char*, float& value, Combine) {
                        value = stream.below(4) == 0 ? kNotMeasured : std::exp2(8 * stream.uniform() - 4);
                    });
                return round;
            };
            Run interrupted(options, 3);
            for (int round = 0; round < 5; ++round)
                interrupted.see(draw());
            Run resumed(options, 3);
            resumed.resume(interrupted);
            CHECK(resumed.policy().state() == interrupted.policy().state());
            for (int round = 0; round < 5; ++round) {
                const auto statistics = draw();
                CHECK(interrupted.see(statistics) == resumed.see(statistics));
                CHECK(interrupted.plan() == resumed.plan());
            }
        }
    }

    TEST_CASE("state of another model is refused") {
        for (const char* name : {"fp32", "gradient", "numgeom", "numgeom_literal"}) {
            const auto policy = make_policy({.policy = name}, layers(2));
            CHECK_THROWS_AS(policy->restore(std::vector<double>(3 + 4 * 2)), FormatError);
        }
    }

    TEST_CASE("no policy touches uplink and downlink, which are the controller's") {
        for (const char* name : {"uniform", "gradient", "numgeom", "numgeom_literal"}) {
            const auto policy = make_policy({.policy = name}, layers(1));
            PrecisionPlan plan = policy->initial();
            plan.layers[0].uplink = 6;
            plan.layers[0].downlink = 7;
            LayerStatistics s = literal(1, 1, 1);
            s.curvature = s.signal_norm = s.backward_error = 1;
            policy->update({.round = 1, .layers = std::vector<LayerStatistics>{s}}, plan);
            CHECK(plan.layers[0].uplink == 6);
            CHECK(plan.layers[0].downlink == 7);
        }
    }
}
