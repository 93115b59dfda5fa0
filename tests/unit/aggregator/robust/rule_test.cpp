#include "aggregator/robust/rule.hpp"

#include "core/error.hpp"
#include "tests/golden/formulas.hpp"
#include "tests/unit/aggregator/robust/cohorts.hpp"

#include <fstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace dither;
using namespace dither::test;

namespace {

const std::vector<std::string> kRobust{"median",           "trimmed_mean",     "krum", "multi_krum", "bulyan",
                                       "geometric_median", "centered_clipping"};

/// The cohort of make_robust.py.
struct Reference {
    nlohmann::json json = nlohmann::json::parse(std::ifstream(DITHER_GOLDEN_DIR "/robust.json"));
    std::size_t clients = json["clients"];
    std::size_t faulty = json["faulty"];

    Updates updates() const {
        const std::size_t size = json["size"];
        Updates updates(clients, std::vector<float>(size));
        for (std::size_t i = 0; i < clients - faulty; ++i)
            golden::fill_wave(updates[i], i * size, 1);
        for (std::size_t i = 0; i < faulty; ++i)
            golden::fill_wave(updates[clients - faulty + i], 9000 + i * size, 1.1, 0.4);
        return updates;
    }
};

void check_near(const std::vector<float>& found, const nlohmann::json& expected) {
    REQUIRE(found.size() == expected.size());
    for (std::size_t j = 0; j < found.size(); ++j)
        CHECK(std::abs(found[j] - expected[j].get<double>()) < 1e-6);
}

}  // namespace

TEST_SUITE("aggregator/robust/rule") {
    TEST_CASE("every rule computes what its paper says, mixed or not, to 1e-6") {
        const Reference reference;
        for (const bool mixing : {false, true})
            for (const auto& [name, expected] : reference.json[mixing ? "mixed" : "rules"].items()) {
                CAPTURE(name);
                CAPTURE(mixing);
                const std::string kind = name.substr(0, name.find(' '));
                FederationOptions federation = federation_of(kind, reference.clients, reference.faulty, mixing);
                if (kind != name)
                    federation.aggregation.radius = reference.json["radius"];
                check_near(combined(federation, reference.updates()), expected);
            }
    }

    TEST_CASE("the mean weighs updates as it is told to") {
        const Updates updates{{1, -2}, {5, 2}};
        Cohort cohort({updates.begin(), updates.end()}, {3, 1});
        std::vector<float> out(2);
        make_robust_rule(federation_of("mean", 2, 0))->combine(cohort, out);
        CHECK(out == std::vector<float>{2, -1});
    }

    TEST_CASE("as many liars as a rule bears cannot pull it away from the honest updates, however far they go") {
        constexpr std::size_t kClients = 23, kLiars = 5;
        for (const float reach : {30.0F, 1e6F, 1e30F})
            for (const bool mixing : {false, true})
                for (const std::string& kind : kRobust) {
                    CAPTURE(kind);
                    CAPTURE(mixing);
                    CAPTURE(reach);
                    Updates updates = normal_updates(kClients, 100);
                    for (std::size_t i = 0; i < kLiars; ++i)
                        updates[4 * i].assign(100, i < 3 ? reach : -2 * reach);
                    Updates honest;
                    for (std::size_t i = 0; i < kClients; ++i)
                        if (i % 4 != 0 || i >= 4 * kLiars)
                            honest.push_back(updates[i]);
                    const auto result = combined(federation_of(kind, kClients, kLiars, mixing), updates);
                    CHECK(distance(result, combined(federation_of("mean", honest.size(), 0), honest)) <
                          diameter(honest));
                }
    }

    TEST_CASE("one liar pulls the mean as far as it likes") {
        Updates updates = normal_updates(10, 100);
        updates[3].assign(100, 1e6F);
        CHECK(distance(combined(federation_of("mean", 10, 0), updates), updates[0]) > 1e5);
    }

    TEST_CASE("where all updates are the same, every rule gives that one") {
        const Updates updates(11, normal_updates(1, 70).front());
        for (const bool mixing : {false, true})
            for (const std::string& kind : kRobust) {
                CAPTURE(kind);
                CHECK(distance(combined(federation_of(kind, 11, 2, mixing), updates), updates.front()) < 1e-5);
            }
    }

    TEST_CASE("where all updates but the lies are the same, every rule but clipping gives that one") {
        Updates updates(11, normal_updates(1, 70).front());
        updates[0].assign(70, 1e4F);
        updates[7].assign(70, -3e4F);
        for (const std::string& kind : kRobust) {
            CAPTURE(kind);
            CHECK(distance(combined(federation_of(kind, 11, 2), updates), updates[1]) <
                  (kind == "centered_clipping" ? 10 : 1e-3));
        }
    }

    TEST_CASE("of updates that are equally good, krum takes the first") {
        const Updates updates{{0, 0}, {4, 0}, {0, 4}, {4, 4}, {2, 2}, {2, 2}};
        CHECK(combined(federation_of("krum", 6, 1), updates) == updates[4]);
        const Updates square{{1, 0}, {0, 1}, {-1, 0}, {0, -1}};
        CHECK(combined(federation_of("krum", 4, 0), square) == square[0]);
    }

    TEST_CASE("a rule that is to bear nobody is a mean, where it is a kind of mean") {
        const Updates updates = normal_updates(9, 70);
        const auto mean = combined(federation_of("mean", 9, 0), updates);
        for (const std::string kind : {"trimmed_mean", "multi_krum", "bulyan"}) {
            CAPTURE(kind);
            CHECK(distance(combined(federation_of(kind, 9, 0), updates), mean) < 1e-6);
        }
        CHECK(distance(combined(federation_of("krum", 9, 0, true), updates), mean) < 1e-6);
    }

    TEST_CASE("a cohort of one is that one") {
        const Updates updates = normal_updates(1, 70);
        for (const std::string kind : {"median", "trimmed_mean", "geometric_median", "centered_clipping"}) {
            CAPTURE(kind);
            CHECK(distance(combined(federation_of(kind, 1, 0), updates), updates.front()) < 1e-6);
        }
    }

    TEST_CASE("an unknown rule is refused") {
        CHECK_THROWS_AS(make_robust_rule(federation_of("mode", 5, 0)), InputError);
    }
}
