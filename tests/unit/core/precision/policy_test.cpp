#include "core/precision/policy.hpp"

#include "core/error.hpp"
#include "core/rng.hpp"
#include "tests/unit/core/precision/policy_run.hpp"

#include <doctest/doctest.h>
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace dither;

namespace {

const std::vector<int> kDefaultLevels{4, 8, 16, 32};
const std::vector<int> kManyLevels{2, 3, 4, 6, 8, 16, 32};

/// Two layers with products and a norm.
Schema three_layers() {
    return schema_of({{.count = 40, .macs = 1000}, {.count = 4, .macs = 0}, {.count = 20, .macs = 300}});
}

/// Rounds as a run might bring them, and worse: statistics over six orders of magnitude, some not measured, some zero.
class Rounds {
public:
    explicit Rounds(std::uint64_t seed) : stream_({.seed = static_cast<std::uint32_t>(seed)}) {}

    std::vector<LayerStatistics> statistics() {
        std::vector<LayerStatistics> round(3);
        for (LayerStatistics& s : round)
            for_each_statistic(s, [&](const char*, float& value, Combine) {
                const std::uint32_t kind = stream_.below(8);
                value = kind < 2 ? kNotMeasured : kind == 2 ? 0 : std::exp2(20 * stream_.uniform() - 10);
            });
        return round;
    }
    double loss() { return stream_.below(8) == 0 ? 0 : 3 * static_cast<double>(stream_.uniform()); }

private:
    Stream stream_;
};

void see(PolicyRun& run, Rounds& rounds) {
    run.see(rounds.statistics(), rounds.loss());
}

/// Calls visit(options) for every policy, under both sets of levels.
template <typename Visit>
void for_each_policy(Visit&& visit) {
    for (const Choice& choice : policy_choices())
        for (const std::vector<int>& levels : {kDefaultLevels, kManyLevels}) {
            const PrecisionOptions options{.policy = std::string(choice.name), .levels = levels};
            CAPTURE(choice.name);
            CAPTURE(levels.front());
            visit(options);
        }
}

}  // namespace

TEST_SUITE("core/precision/policy") {
    TEST_CASE("an unknown policy is named") {
        CHECK_THROWS_WITH_AS(make_policy({.policy = "numgoem"}, layers(1)), doctest::Contains("numgoem"), InputError);
    }

    TEST_CASE("bad levels are refused, whoever would use them") {
        CHECK_THROWS_AS(make_policy({.policy = "fp32", .levels = {8, 4}}, layers(1)), InputError);
    }

    TEST_CASE("every change says where, from what, to what and why, and together they are all that changed") {
        for_each_policy([](const PrecisionOptions& options) {
            PolicyRun run(options, three_layers());
            Rounds rounds(7);
            for (int round = 0; round < 30; ++round) {
                PrecisionPlan before = run.plan();
                const auto statistics = rounds.statistics();
                for (const PlanChange& change : run.see(statistics, rounds.loss())) {
                    CHECK(before.layers[change.layer][change.phase] == change.from);
                    CHECK(change.from != change.to);
                    const bool has_number = change.reason.find_first_of("0123456789") != std::string::npos ||
                                            change.reason.find("inf") != std::string::npos;
                    CHECK((has_number || change.reason == "no products to round"));
                    before.layers[change.layer][change.phase] = change.to;
                }
                CHECK(before == run.plan());
            }
        });
    }

    TEST_CASE("no plan leaves the levels, nor an uplink the widths of codes, whatever is reported") {
        for_each_policy([](const PrecisionOptions& options) {
            const Levels levels(options.levels);
            for (std::uint64_t seed = 0; seed < 5; ++seed) {
                PolicyRun run(options, three_layers());
                Rounds rounds(seed);
                for (int round = 0; round < 40; ++round) {
                    for (const LayerBits& bits : run.plan().layers) {
                        for (const Phase phase : {Phase::forward, Phase::backward, Phase::optimizer})
                            CHECK(levels.contains(bits[phase]));
                        CHECK(
                            (run.policy().rules_uplink() ? bits.uplink >= 2 && bits.uplink <= 16 : bits.uplink == 32));
                        CHECK(bits.downlink == 32);
                    }
                    see(run, rounds);
                }
            }
        });
    }

    TEST_CASE("a statistic that is no number breaks no policy") {
        for_each_policy([](const PrecisionOptions& options) {
            const Levels levels(options.levels);
            for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
                PolicyRun run(options, three_layers());
                Rounds rounds(3);
                see(run, rounds);
                std::vector<LayerStatistics> broken(3);
                for (LayerStatistics& s : broken)
                    for_each_statistic(s, [&](const char*, float& value, Combine) { value = bad; });
                run.see(broken, static_cast<double>(bad));
                see(run, rounds);
                for (const LayerBits& bits : run.plan().layers)
                    CHECK(levels.contains(bits.forward));
            }
        });
    }

    TEST_CASE("a resumed policy decides as the interrupted one would have") {
        for_each_policy([](const PrecisionOptions& options) {
            for (const int interruption : {0, 1, 9}) {
                Rounds rounds(5);
                PolicyRun interrupted(options, three_layers());
                for (int round = 0; round < interruption; ++round)
                    see(interrupted, rounds);
                PolicyRun resumed(options, three_layers());
                resumed.resume(interrupted);
                CHECK(resumed.policy().state() == interrupted.policy().state());
                for (int round = 0; round < 12; ++round) {
                    const auto statistics = rounds.statistics();
                    const double loss = rounds.loss();
                    CHECK(interrupted.see(statistics, loss) == resumed.see(statistics, loss));
                    CHECK(interrupted.plan() == resumed.plan());
                    CHECK(interrupted.policy().state() == resumed.policy().state());
                }
            }
        });
    }

    TEST_CASE("state of another model is refused") {
        for_each_policy([](const PrecisionOptions& options) {
            const auto policy = make_policy(options, layers(2));
            std::vector<double> state = policy->state();
            CHECK_NOTHROW(policy->restore(state));
            state.push_back(1);
            CHECK_THROWS_AS(policy->restore(state), FormatError);
        });
    }

    TEST_CASE("no policy touches the downlink, and those that do not rule the uplink leave it alone") {
        for_each_policy([](const PrecisionOptions& options) {
            const auto policy = make_policy(options, three_layers());
            PrecisionPlan plan = policy->initial();
            Rounds rounds(11);
            for (LayerBits& bits : plan.layers) {
                bits.uplink = 6;
                bits.downlink = 7;
            }
            for (std::uint32_t round = 1; round < 20; ++round) {
                const auto statistics = rounds.statistics();
                policy->update({.round = round, .train_loss = rounds.loss(), .layers = statistics}, plan);
                for (const LayerBits& bits : plan.layers) {
                    CHECK(bits.downlink == 7);
                    CHECK((policy->rules_uplink() || bits.uplink == 6));
                }
            }
        });
    }

    TEST_CASE("a report for another number of layers is refused") {
        for (const char* name :
             {"gradient", "curvature", "numgeom", "numgeom_literal", "loss", "plateau", "range", "hawq", "learned"}) {
            CAPTURE(name);
            const auto policy = make_policy({.policy = name}, layers(2));
            PrecisionPlan plan = policy->initial();
            const std::vector<LayerStatistics> one(1);
            CHECK_THROWS_AS(policy->update({.round = 1, .train_loss = 1, .layers = one}, plan), PreconditionError);
        }
    }
}
