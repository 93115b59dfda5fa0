#include "transport/held_model.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>

#include <vector>

using namespace dither;

namespace {

constexpr std::size_t kCount = 6;

const Schema& schema() {
    static const Schema schema({LayerSpec{
        .name = "fc1", .offset = 0, .count = kCount, .tensors = {{"weight", Shape{3, 2}, 0}}, .macs = kCount}});
    return schema;
}

Job job_of(const std::string& downlink_of) {
    Job job;
    job.codec.downlink_of = downlink_of;
    return job;
}

HeldModel fresh(const std::string& downlink_of = "delta") {
    static const Job delta = job_of("delta");
    static const Job model = job_of("model");
    return {downlink_of == "delta" ? delta : model, schema(),
            [](std::span<float> values) { std::fill(values.begin(), values.end(), 1.0F); }};
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

    explicit Chain(std::uint32_t last) {
        const auto codec = make_codec(CodecOptions{}, schema());
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
}
