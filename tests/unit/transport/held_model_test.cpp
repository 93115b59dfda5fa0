#include "transport/held_model.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <vector>

using namespace dither;

namespace {

constexpr std::size_t kCount = 6;

const Schema& schema() {
    static const Schema schema({LayerSpec{
        .name = "fc1", .offset = 0, .count = kCount, .tensors = {{"weight", Shape{3, 2}, 0}}, .macs = kCount}});
    return schema;
}

/// Trained parameters, and behind them a running mean.
const Schema& normed_schema() {
    static const Schema schema({LayerSpec{.name = "bn1",
                                          .offset = 0,
                                          .count = kCount,
                                          .tensors = {{"weight", Shape{4}, 0}, {"mean", Shape{2}, 4, false}},
                                          .macs = 0}});
    return schema;
}

Job job_of(const std::string& downlink_of, const std::string& strategy = "fedavg") {
    Job job;
    job.codec.downlink_of = downlink_of;
    job.federation.strategy.kind = strategy;
    return job;
}

HeldModel made_for(const Job& job, const Schema& schema) {
    return {job, schema, [](std::span<float> values) { std::fill(values.begin(), values.end(), 1.0F); }};
}

HeldModel fresh(const std::string& downlink_of = "delta") {
    return made_for(job_of(downlink_of), schema());
}

HeldModel fresh_controlled() {
    return made_for(job_of("delta", "scaffold"), normed_schema());
}

std::vector<std::byte> encoded(const Codec& codec, std::span<const float> values, const Terms& terms) {
    std::vector<std::byte> payload;
    codec.encode(values, terms, payload);
    return payload;
}

void cut(ModelPart& part) {
    part.payload = std::vector(part.payload.begin(), part.payload.end() - 1);
}

/// The chain of models that an aggregator would make: 1, then one grid step more every round.
struct Chain {
    std::vector<ModelPart> parts;
    std::vector<std::vector<float>> models{{}, std::vector<float>(kCount, 1.0F)};  ///< of round 1 and later

    explicit Chain(std::uint32_t last, const Schema& schema = ::schema()) {
        const auto codec = make_codec(CodecOptions{}, schema);
        for (std::uint32_t round = 2; round <= last; ++round) {
            ModelPart part{.round = round, .steps = {0.25F}};
            std::vector<float> change(kCount, 0.3F * static_cast<float>(round));
            const Terms terms{.steps = part.steps, .key = downlink_key(Job{}.job.seed, round)};
            part.payload = encoded(*codec, change, terms);
            codec->decode(part.payload, terms, change);
            std::vector<float> model = models.back();
            for (std::size_t j = 0; j < kCount; ++j)
                model[j] += change[j];
            models.push_back(std::move(model));
            parts.push_back(std::move(part));
        }
    }

    RoundPlan plan(std::uint32_t base, std::uint32_t round) const {
        RoundPlan plan{.round = round, .base = base, .broadcast = sha256(std::span<const float>(models[round]))};
        plan.parts.assign(parts.begin() + (base - 1), parts.begin() + (round - 1));
        return plan;
    }

    RoundPlan whole(std::uint32_t round, bool with_change) const {
        RoundPlan plan{.round = round, .broadcast = sha256(std::span<const float>(models[round]))};
        plan.parts = {{.round = round}};
        plan.parts[0].payload = encoded(*make_codec({.kind = "raw"}, schema()), models[round], {});
        if (with_change)
            plan.parts.push_back(parts[round - 2]);
        return plan;
    }
};

bool holds(const HeldModel& held, const std::vector<float>& model) {
    return std::ranges::equal(held.values(), model);
}

/// A chain whose changes move a control variate.
struct ControlledChain : Chain {
    std::vector<std::vector<float>> controls{{}, std::vector<float>(kCount)};  ///< of round 1 and later

    explicit ControlledChain(std::uint32_t last) : Chain(last, normed_schema()) {
        for (std::uint32_t round = 2; round <= last; ++round) {
            const ControlStep step{.keep = 0.75F, .gain = -0.3F * static_cast<float>(round)};
            parts[round - 2].control = step;
            std::vector<float> control(kCount);
            for (std::size_t j = 0; j < 4; ++j) {
                const float change = models[round][j] - models[round - 1][j];  // exact: multiples of a grid's step
                control[j] = step.keep * controls.back()[j] + step.gain * change;
            }
            controls.push_back(std::move(control));
        }
    }

    Sha256 digest(std::uint32_t round) const { return broadcast_digest(models[round], controls[round]); }
    RoundPlan plan(std::uint32_t base, std::uint32_t round) const {
        RoundPlan plan = Chain::plan(base, round);
        plan.broadcast = digest(round);
        return plan;
    }
    RoundPlan whole(std::uint32_t round, bool with_change) const {
        RoundPlan plan = Chain::whole(round, with_change);
        plan.broadcast = digest(round);
        plan.control = encoded(*make_codec({.kind = "raw"}, schema()), controls[round], {});
        return plan;
    }
    bool led(const HeldModel& held, std::uint32_t round) const {
        return holds(held, models[round]) && std::ranges::equal(held.control(), controls[round]);
    }
};

}  // namespace

TEST_SUITE("transport/held_model") {
    TEST_CASE("a node that holds nothing makes the initial model and adds what has changed since") {
        const Chain chain(5);
        HeldModel held = fresh();
        held.receive(chain.plan(1, 1));
        CHECK(holds(held, chain.models[1]));
        CHECK(held.expectation() == nullptr);
        HeldModel late = fresh();
        late.receive(chain.plan(1, 5));
        CHECK(holds(late, chain.models[5]));
        CHECK(late.expectation() != nullptr);
    }

    TEST_CASE("changes that it has already are skipped, and what lacks is added") {
        const Chain chain(6);
        HeldModel held = fresh();
        held.receive(chain.plan(1, 3));
        held.receive(chain.plan(2, 5));
        CHECK(holds(held, chain.models[5]));
        held.receive(chain.plan(4, 5));
        CHECK(holds(held, chain.models[5]));
        held.receive(chain.plan(5, 6));
        CHECK(holds(held, chain.models[6]));
    }

    TEST_CASE("a node that cannot follow says that it needs a model, and follows again from a whole one") {
        const Chain chain(6);
        HeldModel held = fresh();
        CHECK_THROWS_AS(held.receive(chain.plan(3, 5)), ModelMissing);
        held.receive(chain.plan(1, 2));
        CHECK_THROWS_AS(held.receive(chain.plan(3, 5)), ModelMissing);
        held.receive(chain.plan(2, 3));  // what it held it still holds
        held.receive(chain.whole(5, false));
        CHECK(holds(held, chain.models[5]));
        CHECK(held.expectation() == nullptr);
        held.receive(chain.plan(5, 6));
        CHECK(holds(held, chain.models[6]));
    }

    TEST_CASE("changes that lead elsewhere, or do not decode, leave it without a model") {
        const Chain chain(4);
        HeldModel held = fresh();
        held.receive(chain.plan(1, 2));
        RoundPlan astray = chain.plan(2, 3);
        astray.broadcast[0] ^= 1;
        CHECK_THROWS_AS(held.receive(astray), ModelMissing);
        CHECK_THROWS_AS(held.receive(chain.plan(2, 3)), ModelMissing);
        held.receive(chain.plan(1, 3));
        RoundPlan broken = chain.plan(3, 4);
        cut(broken.parts[0]);
        CHECK_THROWS_AS(held.receive(broken), FormatError);
        held.receive(chain.plan(1, 4));
        CHECK(holds(held, chain.models[4]));
        RoundPlan wrong = chain.whole(3, false);
        wrong.broadcast[0] ^= 1;
        CHECK_THROWS_AS(held.receive(wrong), FormatError);
    }

    TEST_CASE(
        "the change of the round is known whether the model came by it or whole, and where nothing changed there is "
        "none") {
        const Chain chain(3);
        HeldModel one = fresh();
        HeldModel other = fresh();
        one.receive(chain.plan(1, 3));
        other.receive(chain.whole(3, true));
        REQUIRE(one.expectation() != nullptr);
        REQUIRE(other.expectation() != nullptr);
        CHECK(std::ranges::equal(one.expectation()->of(0).rows, other.expectation()->of(0).rows));
        CHECK(holds(other, chain.models[3]));
        RoundPlan still{.round = 4, .base = 3, .broadcast = chain.plan(1, 3).broadcast, .parts = {{.round = 4}}};
        one.receive(still);
        CHECK(one.expectation() == nullptr);
        CHECK(holds(one, chain.models[3]));
    }

    TEST_CASE("a change that was refused leaves nothing behind of what is known of its round") {
        const Chain chain(4);
        HeldModel held = fresh();
        held.receive(chain.plan(1, 3));
        RoundPlan broken = chain.whole(4, true);
        cut(broken.parts[1]);
        CHECK_THROWS_AS(held.receive(broken), FormatError);
        held.receive(chain.whole(3, true));
        CHECK(holds(held, chain.models[3]));
        CHECK(held.expectation() != nullptr);
        held.receive(chain.plan(3, 4));
        CHECK(holds(held, chain.models[4]));

        RoundPlan astray = chain.plan(1, 3);
        const Terms terms{.steps = astray.parts[1].steps, .key = downlink_key(Job{}.job.seed, 3)};
        astray.parts[1].payload = encoded(*make_codec(CodecOptions{}, schema()), std::vector<float>(kCount, 64), terms);
        HeldModel led = fresh();
        CHECK_THROWS_AS(led.receive(astray), ModelMissing);
        led.receive(chain.whole(3, true));
        HeldModel other = fresh();
        other.receive(chain.whole(3, true));
        CHECK(std::ranges::equal(led.expectation()->of(0).rows, other.expectation()->of(0).rows));
    }

    TEST_CASE("a downlink of whole models sends them by its own codec") {
        const auto codec = make_codec(CodecOptions{}, schema());
        std::vector<float> model(kCount, 0.5F);
        RoundPlan plan{.round = 2, .parts = {{.round = 2, .steps = {0.25F}}}};
        const Terms terms{.steps = plan.parts[0].steps, .key = downlink_key(Job{}.job.seed, 2)};
        plan.parts[0].payload = encoded(*codec, model, terms);
        codec->decode(plan.parts[0].payload, terms, model);
        plan.broadcast = sha256(std::span<const float>(model));
        HeldModel held = fresh("model");
        held.receive(plan);
        CHECK(holds(held, model));
        CHECK(held.expectation() == nullptr);
    }

    TEST_CASE("a job without control variates has none, and its digest is the model's") {
        CHECK(fresh().control().empty());
        const std::vector<float> model(kCount, 2.0F);
        CHECK(broadcast_digest(model, {}) == sha256(std::span<const float>(model)));
        CHECK(broadcast_digest(model, std::vector<float>(kCount)) != sha256(std::span<const float>(model)));
    }

    TEST_CASE("a control variate moves with the model, the same by whatever way a node follows") {
        const ControlledChain chain(6);
        HeldModel held = fresh_controlled();
        for (std::uint32_t round = 1; round <= 6; ++round) {
            held.receive(chain.plan(round == 1 ? 1 : round - 1, round));
            CHECK(chain.led(held, round));
        }
        HeldModel late = fresh_controlled();
        late.receive(chain.plan(1, 4));
        CHECK(chain.led(late, 4));
        late.receive(chain.plan(2, 6));  // of which it has the first two
        CHECK(chain.led(late, 6));
        HeldModel whole = fresh_controlled();
        whole.receive(chain.whole(4, true));
        CHECK(chain.led(whole, 4));
        whole.receive(chain.whole(4, true));
        CHECK(chain.led(whole, 4));
        whole.receive(chain.plan(4, 6));
        CHECK(chain.led(whole, 6));
        held.receive(chain.whole(3, false));  // the run has gone back
        CHECK(chain.led(held, 3));
    }

    TEST_CASE("a round that changes nothing leaves a control variate, and one whose change is 0 moves it") {
        Job job = job_of("delta", "scaffold");
        job.codec.downlink.kind = "raw";
        HeldModel held = made_for(job, normed_schema());
        std::vector<float> model(kCount, 1.0F), control(kCount);
        const auto go = [&](std::uint32_t round, const ModelPart& part) {
            held.receive(
                {.round = round, .base = round - 1, .broadcast = broadcast_digest(model, control), .parts = {part}});
            CHECK(holds(held, model));
            CHECK(std::ranges::equal(held.control(), control));
        };
        const auto raw = make_codec(job.codec.downlink, normed_schema());
        ModelPart part{.round = 2, .control = ControlStep{.keep = 0.5F, .gain = -4}};
        part.payload = encoded(*raw, std::vector<float>(kCount, 0.25F), {});
        std::ranges::fill(model, 1.25F);
        control = {-1, -1, -1, -1, 0, 0};
        go(2, part);
        go(3, {.round = 3});
        part.round = 4;
        part.payload = encoded(*raw, std::vector<float>(kCount), {});
        control = {-0.5F, -0.5F, -0.5F, -0.5F, 0, 0};
        go(4, part);
    }

    TEST_CASE("no control variate with a whole model is one of 0") {
        const ControlledChain chain(3);
        HeldModel held = fresh_controlled();
        held.receive(chain.plan(1, 3));
        RoundPlan whole = chain.whole(2, false);
        whole.control = {};
        whole.broadcast = broadcast_digest(chain.models[2], std::vector<float>(kCount));
        held.receive(whole);
        CHECK(std::ranges::equal(held.control(), std::vector<float>(kCount)));
    }

    TEST_CASE("a control variate that leads elsewhere leaves the node without a model, until a whole one comes") {
        const ControlledChain chain(4);
        HeldModel held = fresh_controlled();
        held.receive(chain.plan(1, 2));
        RoundPlan astray = chain.plan(2, 3);
        astray.parts[0].control->gain *= 2;
        CHECK_THROWS_AS(held.receive(astray), ModelMissing);
        CHECK_THROWS_AS(held.receive(chain.plan(2, 3)), ModelMissing);
        held.receive(chain.whole(3, true));
        held.receive(chain.plan(3, 4));
        CHECK(chain.led(held, 4));
    }

    TEST_CASE("a control variate of another size, or not finite, or where none belongs, is refused") {
        const ControlledChain chain(3);
        const auto refused = [](HeldModel held, const RoundPlan& plan) {
            CHECK_THROWS_AS(held.receive(plan), FormatError);
        };
        RoundPlan plan = chain.whole(3, false);
        plan.control = std::vector(plan.control.begin(), plan.control.end() - 4);
        refused(fresh_controlled(), plan);
        std::vector<std::byte> bytes(plan.control.begin(), plan.control.end());
        const float nan = std::numeric_limits<float>::quiet_NaN();
        bytes.resize(bytes.size() + sizeof(nan));
        std::memcpy(bytes.data() + bytes.size() - sizeof(nan), &nan, sizeof(nan));
        plan.control = bytes;
        refused(fresh_controlled(), plan);
        refused(fresh(), chain.whole(3, false));
        refused(fresh(), chain.plan(1, 3));
        plan = chain.plan(1, 3);
        plan.parts[1].control.reset();
        refused(fresh_controlled(), plan);
        plan = chain.whole(3, true);
        plan.parts[0].control = plan.parts[1].control;
        refused(fresh_controlled(), plan);
    }
}
