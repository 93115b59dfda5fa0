#include "aggregator/client_scores.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>

#include <array>

using namespace dither;

namespace {

WeightedReport report(std::uint32_t client, const HeldOutScore& score) {
    return {.client = client, .weight = 1, .report = {.samples = 10, .held_out = score, .layers = {}}, .plan = {}};
}

}  // namespace

TEST_SUITE("aggregator/client_scores") {
    TEST_CASE("a quantile lies between its two neighbours in proportion") {
        const std::array<double, 5> values{1, 2, 4, 8, 16};
        CHECK(quantile(values, 0) == 1);
        CHECK(quantile(values, 0.5) == 4);
        CHECK(quantile(values, 1) == 16);
        CHECK(quantile(values, 0.1) == doctest::Approx(1.4));   // place 0.4: 1 + 0.4 * (2 - 1)
        CHECK(quantile(values, 0.9) == doctest::Approx(12.8));  // place 3.6: 8 + 0.6 * (16 - 8)
        CHECK(quantile(std::array{3.0}, 0.9) == 3);
        CHECK_THROWS_AS(quantile({}, 0.5), PreconditionError);
    }

    TEST_CASE("each client has one vote, but for the weighted mean") {
        const std::vector<WeightedReport> reports{
            report(0, {.samples = 1, .loss = 4, .accuracy = 0.25F, .personal_loss = 2, .personal_accuracy = 0.5F}),
            report(1, {}),  // who could not evaluate is not counted
            report(2, {.samples = 3, .loss = 2, .accuracy = 0.75F, .personal_loss = 1, .personal_accuracy = 1}),
            report(3, {.samples = 4, .loss = 0, .accuracy = 0.5F, .personal_loss = 0, .personal_accuracy = 0.75F})};
        const auto scores = client_scores(reports, true);
        REQUIRE(scores);
        CHECK(scores->count == 3);
        CHECK(scores->samples == 8);
        REQUIRE(scores->accuracy);
        CHECK(*scores->accuracy == Spread{.mean = 0.5,
                                          .weighted_mean = (0.25 + 3 * 0.75 + 4 * 0.5) / 8,
                                          .p10 = scores->accuracy->p10,
                                          .p50 = 0.5,
                                          .p90 = scores->accuracy->p90,
                                          .min = 0.25,
                                          .max = 0.75});
        CHECK(scores->accuracy->p10 == doctest::Approx(0.3));
        CHECK(scores->accuracy->p90 == doctest::Approx(0.7));
        REQUIRE(scores->personal_accuracy);
        CHECK(scores->personal_accuracy->mean == 0.75);
        CHECK(scores->loss.mean == 2);
        CHECK(scores->loss.weighted_mean == (4 + 3 * 2) / 8.0);
        CHECK(scores->personal_loss.max == 2);
    }

    TEST_CASE("regression has losses, but no accuracies") {
        const auto scores = client_scores(std::vector{report(0, {.samples = 2, .loss = 4, .personal_loss = 2})}, false);
        REQUIRE(scores);
        CHECK_FALSE(scores->accuracy);
        CHECK_FALSE(scores->personal_accuracy);
        CHECK(scores->loss.p50 == 4);
    }

    TEST_CASE("a round that nobody evaluated has no scores") {
        CHECK_FALSE(client_scores(std::vector{report(0, {})}, true));
        CHECK_FALSE(client_scores({}, true));
    }
}
