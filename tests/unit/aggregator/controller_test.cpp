#include "aggregator/controller.hpp"

#include "core/error.hpp"
#include "core/precision/ledger.hpp"
#include "tests/unit/aggregator/fixtures.hpp"
#include "transport/codec.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <doctest/doctest.h>
#include <rapidcheck.h>

using namespace dither;
using test::small_schema;

namespace {

Job grid_job(int uplink_bits, int downlink_bits, const std::string& policy = "fp32") {
    Job job;
    job.precision.policy = policy;
    job.precision.uplink_noise = 0.05;
    job.codec.uplink = {.kind = "grid", .bits = uplink_bits};
    job.codec.downlink = {.kind = "grid", .bits = downlink_bits};
    job.codec.downlink_of = "model";
    return job;
}

Job raw_job() {
    Job job = grid_job(0, 0);
    job.codec.uplink.kind = "raw";
    job.codec.downlink.kind = "raw";
    return job;
}

/// fc1: all 2; fc2: 0, 0, 3.
constexpr std::array<float, 8> kModel{2, -2, 2, 2, -2, 0, 0, 3};

LayerStatistics moved(float range, float rms) {
    LayerStatistics statistics;
    statistics.grad_norm = 1;
    statistics.signal_norm = 0.5F;
    statistics.theta_norm = 4;
    statistics.curvature = 0.05F;
    statistics.backward_error = 0.2F;
    statistics.forward_sensitivity = 0.02F;
    statistics.backward_sensitivity = 0.02F;
    statistics.update_range = range;
    statistics.update_rms = rms;
    return statistics;
}

Job probing_job() {
    Job job = grid_job(0, 0, "numgeom");
    job.precision.curvature_every = 5;
    job.precision.curvature_clients = 2;
    return job;
}

std::vector<PlanChange> learn(Controller& controller, std::uint32_t round, std::span<const LayerStatistics> statistics,
                              double train_loss = 1) {
    auto changes = controller.learn({.round = round, .train_loss = train_loss, .layers = statistics});
    controller.choose_grids(kModel);
    return changes;
}

Controller started(const Job& job, const Schema& schema = small_schema()) {
    Controller controller(job, schema);
    controller.start(kModel);
    return controller;
}

}  // namespace

TEST_SUITE("aggregator/controller") {
    TEST_CASE("a fixed uplink width covers the last round's largest update") {
        Controller controller(grid_job(4, 8), small_schema());
        controller.start(kModel);
        learn(controller, 1, std::array{moved(0.7F, 0.1F), moved(1.4F, 0.1F)});
        CHECK(controller.uplink_steps()[0] == doctest::Approx(0.1));  // codes -7 .. 7
        CHECK(controller.uplink_steps()[1] == doctest::Approx(0.2));
        CHECK(controller.plan().layers[0].uplink == 4);
    }

    TEST_CASE(
        "an automatic uplink step makes the noise a twentieth of the update, and the width follows from the range") {
        Controller controller(grid_job(0, 0), small_schema());
        controller.start(kModel);
        learn(controller, 1, std::array{moved(0.75F, 0.1F), moved(1000, 0.001F)});
        CHECK(controller.uplink_steps()[0] == doctest::Approx(std::sqrt(6 * 0.05) * 0.1).epsilon(1e-4));
        CHECK(controller.plan().layers[0].uplink == 5);   // 31 codes
        CHECK(controller.plan().layers[1].uplink == 16);  // at most
    }

    TEST_CASE("before any report the uplink is guessed from the weights, even from zero ones") {
        Controller controller(grid_job(0, 0), small_schema());
        controller.start(kModel);
        const double mean_square = 0.05 * 0.05 * (5 * 4 + 9) / 8;
        CHECK(controller.uplink_steps()[0] == doctest::Approx(std::sqrt(6 * 0.05 * mean_square)));
        CHECK(controller.uplink_steps()[1] == controller.uplink_steps()[0]);
        controller.start(std::array<float, 8>{});
        for (const float step : controller.uplink_steps())
            CHECK(step > 0);
    }

    TEST_CASE("a layer that did not move, or whose movement is unknown, keeps its step") {
        Controller controller(grid_job(0, 0), small_schema());
        controller.start(kModel);
        learn(controller, 1, std::array{moved(0.75F, 0.1F), moved(0.75F, 0.1F)});
        const std::vector<float> steps(controller.uplink_steps().begin(), controller.uplink_steps().end());
        learn(controller, 2, std::array{moved(0, 0), LayerStatistics{}});
        CHECK(std::equal(steps.begin(), steps.end(), controller.uplink_steps().begin()));
    }

    TEST_CASE("whatever is reported, steps stay a grid's and widths stay between 2 and 16") {
        CHECK(rc::check([] {
            Controller controller(grid_job(*rc::gen::element(0, 2, 8, 16), 0), small_schema());
            controller.start(kModel);
            const float infinity = std::numeric_limits<float>::infinity();
            const auto any = rc::gen::element(0.0F, -1.0F, 1e-38F, 1e-6F, 0.5F, 1e30F, 1e38F, infinity);
            for (std::uint32_t round = 1; round < 4; ++round) {
                learn(controller, round, std::array{moved(*any, *any), moved(*any, *any)});
                for (const float step : controller.uplink_steps())
                    RC_ASSERT(step > 0 && step <= kLargestGridStep);
                for (const LayerBits& layer : controller.plan().layers)
                    RC_ASSERT(layer.uplink >= 2 && layer.uplink <= 16);
            }
        }));
    }

    TEST_CASE("a fixed downlink grid covers each layer's largest weight") {
        const Controller narrow = started(grid_job(0, 4));
        CHECK(narrow.plan().layers[0].downlink == 4);
        CHECK(narrow.downlink_steps()[1] == doctest::Approx(3.0 / 7));
        Controller still(grid_job(0, 4), small_schema());
        still.start(std::array<float, 8>{});
        CHECK(still.downlink_steps()[0] > 0);
    }

    TEST_CASE("a layer without products crosses the wire in 16 bits, whatever the job says") {
        std::vector<LayerSpec> layers(small_schema().layers().begin(), small_schema().layers().end());
        layers[1].macs = 0;
        const Schema schema(std::move(layers));
        for (const int bits : {0, 4}) {
            Controller controller(grid_job(bits, bits), schema);
            controller.start(kModel);
            learn(controller, 1, std::array{moved(0.7F, 0.1F), moved(32.767F, 8)});
            CHECK(controller.uplink_steps()[1] == doctest::Approx(0.001));
            CHECK(controller.plan().layers[1].uplink == 16);
            CHECK(controller.plan().layers[1].downlink == 16);
            CHECK(controller.plan().layers[0].uplink < 16);
            CHECK(controller.plan().layers[0].downlink < 16);
            CHECK(controller.downlink_steps()[1] == doctest::Approx(3.0 / 32767));
        }
        CHECK(started(raw_job(), schema).plan().layers[1].downlink == kFullBits);
    }

    TEST_CASE("the raw codec carries 32 bits whatever the policy says") {
        Controller controller(raw_job(), small_schema());
        controller.start(kModel);
        learn(controller, 1, std::array{moved(0.7F, 0.1F), moved(1.4F, 0.1F)});
        for (const LayerBits& layer : controller.plan().layers) {
            CHECK(layer.uplink == kFullBits);
            CHECK(layer.downlink == kFullBits);
        }
        CHECK(controller.uplink_steps()[0] == 1);
        CHECK(controller.downlink_steps()[0] == 1);
    }

    TEST_CASE("a measurement is asked of as many clients as the job says, and only when it is due") {
        Controller controller(probing_job(), small_schema());
        controller.start(kModel);
        for (std::uint32_t round = 1; round <= 12; ++round) {
            const auto probes = controller.probes(round, 10);
            REQUIRE(probes.size() == 10);
            const bool due = round == 1 || round == 6 || round == 11;
            CHECK(std::count(probes.begin(), probes.end(), Probe::none) == (due ? 8 : 10));
            learn(controller, round, std::array{moved(0.7F, 0.1F), moved(1.4F, 0.2F)});
        }
        const auto few = Controller(probing_job(), small_schema()).probes(1, 1);
        REQUIRE(few.size() == 1);
        CHECK(few[0] != Probe::none);
        CHECK(Controller(grid_job(0, 0, "fp32"), small_schema()).probes(1, 1) == std::vector<Probe>{Probe::none});
    }

    TEST_CASE("every place of a round may be the one that measures, and the seed decides") {
        const Controller controller(probing_job(), small_schema());
        std::vector<int> chosen(10);
        for (std::uint32_t round = 1; round <= 500; round += 5)
            for (std::size_t place = 0; place < chosen.size(); ++place)
                chosen[place] += controller.probes(round, 10)[place] == Probe::none ? 0 : 1;
        for (const int times : chosen)
            CHECK(times > 0);
        CHECK(controller.probes(1, 100) == Controller(probing_job(), small_schema()).probes(1, 100));
        Job other = probing_job();
        other.job.seed = 99;
        CHECK(controller.probes(1, 100) != Controller(other, small_schema()).probes(1, 100));
    }

    TEST_CASE("a measurement that no client brought stays due until a round brings it, across a resume too") {
        Controller controller(probing_job(), small_schema());
        controller.start(kModel);
        LayerStatistics silent = moved(0.7F, 0.1F);
        silent.curvature = silent.forward_sensitivity = silent.backward_sensitivity = kNotMeasured;
        const auto asks = [](const Controller& c, std::uint32_t round) { return c.probes(round, 1)[0] != Probe::none; };
        CHECK(asks(controller, 1));
        learn(controller, 1, std::array{silent, silent});
        Controller resumed(probing_job(), small_schema());
        resumed.restore(controller.state());
        CHECK(asks(resumed, 2));
        learn(resumed, 2, std::array{silent, silent});
        CHECK(asks(resumed, 3));  // 2 could as well have been abandoned
        learn(resumed, 3, std::array{silent, moved(0.7F, 0.1F)});
        CHECK_FALSE(asks(resumed, 4));
        CHECK_FALSE(asks(resumed, 5));
        CHECK(asks(resumed, 6));
    }

    TEST_CASE("a policy cannot take back an alarm before five more rounds have committed") {
        Controller controller(grid_job(0, 0, "numgeom"), small_schema());
        controller.start(kModel);
        const std::array statistics{moved(0.7F, 0.1F), moved(1.4F, 0.2F)};
        for (std::uint32_t round = 1; round <= 3; ++round)
            learn(controller, round, statistics);
        const PrecisionPlan calm = controller.plan();
        const int before = calm.layers[0].forward;
        REQUIRE(before < 16);
        controller.alarm(4, "NaN");
        const int floor = controller.plan().layers[0].forward;
        CHECK(floor > before);
        for (std::uint32_t round = 5; round < 9; ++round) {
            const auto changes = learn(controller, round, statistics);
            CHECK(controller.plan().layers[0].forward == floor);
            CHECK(changes.empty());  // what is put back is no change
        }
        learn(controller, 9, statistics);  // the fifth
        CHECK(controller.plan() == calm);
    }

    TEST_CASE("bits that the job fixes stand in the plan, and the wider operand names the forward phase") {
        Job job = grid_job(0, 0, "uniform");
        job.precision.bits = 16;
        job.quantize.weights.bits = 2;
        job.quantize.activations.bits = 4;
        job.quantize.layers = {{.match = "fc2", .settings = {{"weights.bits", "8"}, {"gradients.bits", "3"}}}};
        job.quantize.optimizer_bits = 8;
        const Schema schema = small_schema();
        Controller controller(job, schema);
        for (int round = 0; round < 2; ++round) {
            const auto& layers = controller.plan().layers;
            CHECK(layers[0].forward == 4);
            CHECK(layers[0].backward == 16);
            CHECK(layers[0].optimizer == 8);
            CHECK(layers[1].forward == 8);
            CHECK(layers[1].backward == 3);
            const std::vector<LayerStatistics> statistics(2, moved(1, 0.5F));
            CHECK(learn(controller, 1, statistics).empty());
        }
        job.precision.policy = "fp32";
        const Controller full(job, schema);
        for (const LayerBits& layer : full.plan().layers)
            CHECK(layer.forward == kFullBits);
    }

    TEST_CASE("an alarm takes a layer whose bits are fixed to fp32, for it has no level between") {
        Job job = grid_job(0, 0, "uniform");
        job.precision.bits = 8;
        job.quantize.weights.bits = job.quantize.activations.bits = job.quantize.gradients.bits = 4;
        const Schema schema = small_schema();
        Controller controller(job, schema);
        CHECK(controller.plan().layers[0].forward == 4);
        CHECK_FALSE(controller.alarm(1, "a NaN").empty());
        CHECK(controller.plan().layers[0].forward == kFullBits);
        CHECK(controller.plan().layers[0].backward == kFullBits);
        CHECK(controller.plan().layers[0].optimizer == 16);
    }

    TEST_CASE("a change that fixed bits undo is not reported") {
        Job job = grid_job(0, 0, "numgeom");
        const Schema schema = small_schema();
        const std::vector<LayerStatistics> statistics(2, moved(1, 0.5F));
        Controller free(job, schema);
        REQUIRE_FALSE(learn(free, 1, statistics).empty());
        job.quantize.weights.bits = job.quantize.activations.bits = job.quantize.gradients.bits = 8;
        job.quantize.optimizer_bits = 8;
        Controller fixed(job, schema);
        CHECK(learn(fixed, 1, statistics).empty());
        for (const LayerBits& layer : fixed.plan().layers)
            CHECK(layer.forward == 8);
    }

    TEST_CASE("a model that is not finite, or beyond every grid, cannot be broadcast") {
        const Controller grid(grid_job(0, 8), small_schema());
        const Controller raw(raw_job(), small_schema());
        std::array<float, 8> model = kModel;
        CHECK(grid.problem_of(model).empty());
        model[6] = 3e30F;
        CHECK(grid.problem_of(model).empty());
        CHECK(Controller(grid_job(0, 2), small_schema()).problem_of(model).find("layer fc2") == 0);
        CHECK(raw.problem_of(model).empty());
        model[6] = std::numeric_limits<float>::infinity();
        CHECK(grid.problem_of(model) == "layer fc2 is not finite");
        CHECK(raw.problem_of(model) == "layer fc2 is not finite");
    }

    TEST_CASE("an alarm raises every local phase by one level and leaves the wire alone") {
        Job job = grid_job(0, 0, "uniform");
        job.precision.bits = 8;
        Controller controller(job, small_schema());
        controller.start(kModel);
        const PrecisionPlan before = controller.plan();
        const auto changes = controller.alarm(1, "client 3: loss is NaN");
        CHECK(changes.size() == 6);
        CHECK(changes[0].from == 8);
        CHECK(changes[0].to == 16);
        CHECK(changes[0].reason == "client 3: loss is NaN");
        for (std::size_t i = 0; i < 2; ++i) {
            CHECK(controller.plan().layers[i].forward == 16);
            CHECK(controller.plan().layers[i].backward == 16);
            CHECK(controller.plan().layers[i].optimizer == 16);
            CHECK(controller.plan().layers[i].uplink == before.layers[i].uplink);
            CHECK(controller.plan().layers[i].downlink == before.layers[i].downlink);
        }
        CHECK(controller.alarm(2, "again").size() == 6);
        CHECK(controller.alarm(3, "once more").empty());
    }

    TEST_CASE("a saturated layer gets one level more in its forward pass, and says how saturated it was") {
        Job job = grid_job(0, 0, "uniform");
        job.precision.bits = 8;
        Controller controller = started(job);
        std::array statistics{moved(0.7F, 0.1F), moved(1.4F, 0.2F)};
        statistics[1].saturation = 0.75F;
        const auto changes = learn(controller, 3, statistics);
        REQUIRE(changes.size() == 1);
        CHECK(changes[0] ==
              PlanChange{1, Phase::forward, 8, 16, "held at 16 bits after 0.75 of its values were clipped in round 3"});
        CHECK(controller.plan().layers[0].forward == 8);
        CHECK(controller.plan().layers[1].forward == 16);
        CHECK(controller.plan().layers[1].backward == 8);
        learn(controller, 4, statistics);
        CHECK(controller.plan().layers[1].forward == kFullBits);
        statistics[1].saturation = 0.25F;
        Controller resumed(job, small_schema());
        resumed.restore(controller.state());
        CHECK(learn(resumed, 5, statistics).empty());
        CHECK(resumed.plan().layers[1].forward == kFullBits);
    }

    TEST_CASE("saturation holds a layer's bits against a policy that lowers them, and then lets go") {
        Controller controller = started(grid_job(0, 0, "numgeom"));
        std::array statistics{moved(0.7F, 0.1F), moved(1.4F, 0.2F)};
        for (std::uint32_t round = 1; round <= 3; ++round)
            learn(controller, round, statistics);
        const PrecisionPlan calm = controller.plan();
        REQUIRE(calm.layers[1].forward < 16);
        statistics[1].saturation = 0.75F;
        learn(controller, 4, statistics);
        statistics[1].saturation = 0;
        const int raised = controller.plan().layers[1].forward;
        CHECK(raised > calm.layers[1].forward);
        for (std::uint32_t round = 5; round < 9; ++round) {
            learn(controller, round, statistics);
            CHECK(controller.plan().layers[1].forward == raised);
            CHECK(controller.plan().layers[0] == calm.layers[0]);
        }
        learn(controller, 9, statistics);
        CHECK(controller.plan().layers[1].forward == calm.layers[1].forward);
    }

    TEST_CASE("the mean of forward and backward bits stays within the budget from the first round on") {
        for (const std::string policy : {"fp32", "uniform", "gradient", "numgeom_literal"})
            for (const double budget : {20.0, 9.0, 6.0}) {
                CAPTURE(policy);
                CAPTURE(budget);
                Job job = grid_job(0, 0, policy);
                job.precision.bits = 16;
                job.precision.bit_budget = budget;
                const Schema schema = small_schema();
                Controller controller = started(job, schema);
                CHECK(mean_bits(schema, controller.plan()) <= budget);
                std::array statistics{moved(0.7F, 0.1F), moved(1.4F, 0.2F)};
                statistics[0].forward_sensitivity = 1;
                for (std::uint32_t round = 1; round <= 4; ++round) {
                    learn(controller, round, statistics);
                    CHECK(mean_bits(schema, controller.plan()) <= budget);
                }
                CHECK(learn(controller, 5, statistics).empty());  // and does not go to and fro
            }
    }

    TEST_CASE("a bit budget asks for the sensitivities that it is spent by") {
        Job job = grid_job(0, 0, "uniform");
        CHECK(Controller(job, small_schema()).probes(1, 1)[0] == Probe::none);
        job.precision.bit_budget = 6;
        CHECK(asks(Controller(job, small_schema()).probes(1, 1)[0], Probe::sensitivity));
    }

    TEST_CASE("an alarm goes beyond the budget") {
        Job job = grid_job(0, 0, "uniform");
        job.precision.bits = 8;
        job.precision.bit_budget = 8;
        const Schema schema = small_schema();
        Controller controller = started(job, schema);
        controller.alarm(1, "NaN");
        CHECK(mean_bits(schema, controller.plan()) == 16);
        learn(controller, 2, std::array{moved(0.7F, 0.1F), moved(1.4F, 0.2F)});
        CHECK(mean_bits(schema, controller.plan()) == 16);
    }

    TEST_CASE("a restored controller decides as the interrupted one would have") {
        for (const std::string policy : {"fp32", "uniform", "gradient", "numgeom", "numgeom_literal"}) {
            CAPTURE(policy);
            const Job job = grid_job(0, 0, policy);
            Controller one(job, small_schema());
            one.start(kModel);
            learn(one, 1, std::array{moved(0.7F, 0.1F), moved(1.4F, 0.2F)});
            one.alarm(2, "NaN");
            Controller other(job, small_schema());
            other.restore(one.state());
            CHECK(other.state() == one.state());
            one.choose_grids(kModel);
            other.choose_grids(kModel);
            for (std::uint32_t round = 3; round < 10; ++round) {
                CHECK(other.plan() == one.plan());
                const float shrink = 1.0F / static_cast<float>(round);
                const std::array statistics{moved(shrink, 0.1F * shrink), moved(2 * shrink, 0.1F)};
                CHECK(learn(other, round, statistics, shrink) == learn(one, round, statistics, shrink));
            }
            CHECK(other.state() == one.state());
        }
    }

    TEST_CASE("where the policy rules the uplink, what is reported is what changed on the wire, with both reasons") {
        Controller controller = started(grid_job(0, 0, "range"));
        for (std::uint32_t round = 1; round <= 6; ++round) {
            const PrecisionPlan ran = controller.plan();
            const std::array statistics{moved(0.7F, 0.1F), moved(round == 4 ? 0.1F : 1.4F, 0.2F)};
            const auto changes = controller.learn({.round = round, .train_loss = 1, .layers = statistics});
            CHECK(std::ranges::none_of(changes, [](const PlanChange& c) { return c.phase == Phase::uplink; }));
            controller.choose_grids(kModel);
            for (const PlanChange& change : controller.link_changes(ran)) {
                CHECK(change.from == ran.layers[change.layer][change.phase]);
                CHECK(change.to == controller.plan().layers[change.layer][change.phase]);
                CHECK(change.from != change.to);
            }
        }
    }

    TEST_CASE("links that go back forget what a later round taught") {
        Controller controller = started(grid_job(0, 0));
        learn(controller, 1, std::array{moved(0.7F, 0.1F), moved(1.4F, 0.2F)});
        const std::vector<float> steps(controller.uplink_steps().begin(), controller.uplink_steps().end());
        const auto good = controller.links_state();
        learn(controller, 2, std::array{moved(700, 100), moved(1400, 200)});
        CHECK_FALSE(std::ranges::equal(steps, controller.uplink_steps()));
        controller.restore_links(good);
        controller.choose_grids(kModel);
        CHECK(std::ranges::equal(steps, controller.uplink_steps()));
        CHECK_THROWS_AS(controller.restore_links(std::span(good).first(3)), PreconditionError);
    }

    TEST_CASE("a state that claims a guard of many numbers is refused before memory is asked for") {
        Controller controller(grid_job(0, 0), small_schema());
        auto state = controller.state();
        const auto policy =
            static_cast<std::ptrdiff_t>(1);  // of fp32: none; the last number is the measurement's round
        *(state.end() - policy - 1) = 4e9;
        CHECK_THROWS_AS(controller.restore(state), PreconditionError);
    }

    TEST_CASE("a state that is too short, or that no controller could have, is refused") {
        Controller controller(grid_job(0, 0), small_schema());
        CHECK_THROWS_AS(controller.restore(std::array{1.0, 2.0}), PreconditionError);
        CHECK_THROWS_AS(controller.restore(std::array{8.0, 8.0}), PreconditionError);
        auto state = controller.state();
        for (const double bad : {17.0, 1.0, 8.5, -8.0, 1e300, std::numeric_limits<double>::quiet_NaN()}) {
            state[0] = bad;
            CHECK_THROWS_AS(controller.restore(state), PreconditionError);
        }
    }
}
