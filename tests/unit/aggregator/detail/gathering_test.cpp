#include "aggregator/detail/gathering.hpp"

#include "tests/unit/aggregator/robust/cohorts.hpp"

#include <algorithm>

#include <doctest/doctest.h>

using namespace dither;
using namespace dither::test;

namespace {

std::vector<float> gathered(Gathering& gathering, std::uint32_t round, const Updates& updates,
                            std::span<const std::uint32_t> order, const NormBound& bound = NormBound()) {
    gathering.begin(round, bound);
    for (const std::uint32_t client : order)
        std::ranges::copy(updates[client], gathering.add(client, client + 1).begin());
    std::vector<float> out(updates.front().size());
    gathering.combine(out);
    return out;
}

}  // namespace

TEST_SUITE("aggregator/detail/gathering") {
    TEST_CASE("the order of arrival does not show, whatever the rule and the attack") {
        const Updates updates = normal_updates(11, 150);
        auto order = everyone(11);
        for (const std::string rule : {"mean", "median", "trimmed_mean", "krum", "multi_krum", "bulyan",
                                       "geometric_median", "centered_clipping"})
            for (const std::string attack : {"none", "sign_flip", "gaussian", "alie", "ipm", "mimic"}) {
                CAPTURE(rule);
                CAPTURE(attack);
                FederationOptions federation = federation_of(rule, 11, 2, rule != "mean");
                federation.attack.kind = attack;
                Gathering gathering(federation, 1, 150);
                const auto result = gathered(gathering, 3, updates, everyone(11));
                Stream(StreamKey{.round = 1}).shuffle(order);
                CHECK(gathered(gathering, 3, updates, order) == result);
            }
    }

    TEST_CASE("a round knows nothing of the one before") {
        const Updates updates = normal_updates(8, 10);
        const FederationOptions federation = federation_of("median", 8, 1);
        Gathering gathering(federation, 1, 10), fresh(federation, 1, 10);
        gathered(gathering, 1, normal_updates(8, 10, 2), everyone(8));
        const std::vector<std::uint32_t> some{7, 1, 4};
        CHECK(gathered(gathering, 2, updates, some) == gathered(fresh, 2, updates, some));
    }

    TEST_CASE("exactly the attackers' updates are replaced") {
        FederationOptions federation = federation_of("mean", 10, 0);
        federation.attack = {.kind = "sign_flip", .share = 0.3, .scale = 1};
        const Attackers attackers(federation, 1);
        const Updates ones(10, {1});
        Gathering gathering(federation, 1, 1);
        double sum = 0;
        for (std::uint32_t client = 0; client < 10; ++client)
            sum += (client + 1) * (attackers.contains(client) ? -1.0 : 1.0);
        CHECK(gathered(gathering, 1, ones, everyone(10))[0] == doctest::Approx(sum / 55));
    }

    TEST_CASE("what attackers send to the mean counts up to the bound, and robust rules see it whole") {
        FederationOptions federation = federation_of("mean", 10, 0);
        federation.attack = {.kind = "sign_flip", .share = 0.3, .scale = 1000};
        const Attackers attackers(federation, 1);
        const Updates ones(10, {1});
        NormBound bound(2);
        bound.restore(1.5);
        Gathering gathering(federation, 1, 1);
        double sum = 0;
        for (std::uint32_t client = 0; client < 10; ++client)
            sum += (client + 1) * (attackers.contains(client) ? -3.0 : 1.0);
        CHECK(gathered(gathering, 1, ones, everyone(10), bound)[0] == doctest::Approx(sum / 55));

        FederationOptions robust = federation_of("krum", 10, 3);
        Gathering whole(robust, 1, 1), clipped(robust, 1, 1);
        const Updates updates = normal_updates(10, 1);
        CHECK(gathered(whole, 1, updates, everyone(10)) == gathered(clipped, 1, updates, everyone(10), bound));
    }

    TEST_CASE("updates are kept apart only where a sum will not do") {
        FederationOptions federation = federation_of("mean", 10, 0);
        CHECK_FALSE(Gathering::is_needed(federation));
        federation.attack.kind = "label_flip";
        CHECK_FALSE(Gathering::is_needed(federation));
        federation.attack.kind = "ipm";
        CHECK(Gathering::is_needed(federation));
        CHECK(Gathering::is_needed(federation_of("median", 10, 0)));
    }
}
