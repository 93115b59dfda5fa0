#include "aggregator/strategy.hpp"

#include "core/error.hpp"
#include "core/optim/local_progress.hpp"
#include "tests/unit/partly_trained.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <functional>
#include <iterator>
#include <numeric>
#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace dither;
using test::partly_trained;

namespace {

Job job_of(const StrategyOptions& options) {
    Job job;
    job.federation.strategy = options;
    return job;
}

/// Everybody's update alone, so that its weight does not matter.
constexpr std::array kOne{Contribution{.weight = 1, .steps = 1}};

/// Three rounds of three clients, computed by make_strategies.py.
struct Reference {
    nlohmann::json json = nlohmann::json::parse(std::ifstream(DITHER_GOLDEN_DIR "/strategies.json"));
    Schema schema = partly_trained(static_cast<std::int64_t>(json["start"].size()));

    Job job(const std::string& kind) const {
        const auto& o = json["options"];
        Job job = job_of({.kind = kind,
                          .server_lr = o["server_lr"],
                          .momentum = o["momentum"],
                          .beta1 = o["beta1"],
                          .beta2 = o["beta2"],
                          .tau = o["tau"]});
        job.train.optimizer.lr = json["local"]["lr"];
        job.train.optimizer.momentum = json["local"]["momentum"];
        job.train.proximal = json["local"]["proximal"];
        return job;
    }

    std::vector<Contribution> cohort(const Strategy& strategy) const {
        std::vector<Contribution> cohort;
        for (std::size_t k = 0; k < json["samples"].size(); ++k)
            cohort.push_back({.weight = strategy.weight(json["samples"][k]), .steps = json["steps"][k]});
        return cohort;
    }

    /// The weighted mean of what the clients send.
    std::vector<float> mean_update(const Job& job, std::size_t round, std::span<const Contribution> cohort) const {
        std::vector<double> sum(schema.parameters());
        double total = 0;
        for (std::size_t k = 0; k < cohort.size(); ++k) {
            const bool normalized = normalizes_updates(job.federation.strategy);
            const double progress = normalized ? local_progress(job.train, cohort[k].steps) : 1;
            const auto weight = static_cast<double>(cohort[k].weight);
            total += weight;
            for (std::size_t j = 0; j < sum.size(); ++j)
                sum[j] += weight * json["changes"][round][k][j].get<double>() / progress;
        }
        std::vector<float> mean;
        for (const double value : sum)
            mean.push_back(static_cast<float>(value / total));
        return mean;
    }
};

}  // namespace

TEST_SUITE("aggregator/strategy") {
    TEST_CASE("every strategy makes the models that the papers' formulas give, within 1e-6") {
        const Reference reference;
        for (const auto& [kind, models] : reference.json["models"].items()) {
            CAPTURE(kind);
            const Job job = reference.job(kind);
            const auto strategy = make_strategy(job, reference.schema);
            const auto cohort = reference.cohort(*strategy);
            auto model = reference.json["start"].get<std::vector<float>>();
            for (std::size_t round = 0; round < models.size(); ++round) {
                auto next = reference.mean_update(job, round, cohort);
                strategy->apply(model, next, cohort);
                model = next;
                for (std::size_t j = 0; j < model.size(); ++j)
                    CHECK(model[j] == doctest::Approx(models[round][j].get<double>()).epsilon(1e-6).scale(1));
            }
        }
    }

    TEST_CASE("a strategy that is resumed from its state goes on to the same bits") {
        const Reference reference;
        for (const auto& [kind, models] : reference.json["models"].items()) {
            CAPTURE(kind);
            const Job job = reference.job(kind);
            const auto straight = make_strategy(job, reference.schema);
            const auto cohort = reference.cohort(*straight);
            const auto start = reference.json["start"].get<std::vector<float>>();
            auto first = reference.mean_update(job, 0, cohort);
            straight->apply(start, first, cohort);
            const auto resumed = make_strategy(job, reference.schema);
            resumed->restore(straight->state());
            auto one = reference.mean_update(job, 1, cohort);
            auto other = one;
            straight->apply(first, one, cohort);
            resumed->apply(first, other, cohort);
            CHECK(one == other);
            CHECK(std::ranges::equal(straight->state(), resumed->state()));
        }
    }

    TEST_CASE("scaffold's model and control variate are those of the paper's algorithm, within 1e-6") {
        const Reference reference;
        for (const auto& run : reference.json["scaffold"]) {
            Job job = job_of({.kind = "scaffold", .server_lr = run["server_lr"]});
            job.train.optimizer = {.lr = run["lr"], .momentum = 0};
            job.federation.clients = static_cast<std::uint32_t>(run["samples"].size());
            const auto strategy = make_strategy(job, reference.schema);
            auto model = run["start"].get<std::vector<float>>();
            for (const auto& round : run["rounds"]) {
                std::vector<Contribution> cohort;
                std::vector<float> next(model.size());
                for (const auto& client : round["asked"])
                    cohort.push_back({.weight = strategy->weight(run["samples"][client.get<std::size_t>()]),
                                      .steps = run["steps"][client.get<std::size_t>()]});
                const auto total = std::accumulate(cohort.begin(), cohort.end(), 0.0, [](double sum, const auto& one) {
                    return sum + static_cast<double>(one.weight);
                });
                for (std::size_t k = 0; k < cohort.size(); ++k)
                    for (std::size_t j = 0; j < next.size(); ++j)
                        next[j] += static_cast<float>(static_cast<double>(cohort[k].weight) / total *
                                                      round["updates"][k][j].get<double>());
                strategy->apply(model, next, cohort);
                std::vector<float> change;
                std::ranges::transform(next, model, std::back_inserter(change), std::minus<>());
                REQUIRE(strategy->follow(change).has_value());
                model = next;
                for (std::size_t j = 0; j < model.size(); ++j) {
                    CHECK(model[j] == doctest::Approx(round["model"][j].get<double>()).epsilon(1e-6).scale(1));
                    CHECK(strategy->control()[j] ==
                          doctest::Approx(round["control"][j].get<double>()).epsilon(1e-6).scale(1));
                }
            }
        }
    }

    TEST_CASE("a control variate is a strategy's state, and stays 0 where nothing is trained") {
        const Schema schema = partly_trained(1, 1);
        const auto strategy = make_strategy(job_of({.kind = "scaffold"}), schema);
        CHECK(std::ranges::equal(strategy->control(), std::array<float, 2>{0, 0}));
        std::array<float, 2> next{1, 0.5F};
        strategy->apply(std::array<float, 2>{1, 2}, next, kOne);
        const auto step = strategy->follow(std::array<float, 2>{0.5F, 0.25F});
        REQUIRE(step.has_value());
        CHECK(strategy->control()[0] == 0.5F * step->gain);
        CHECK(strategy->control()[1] == 0);
        const auto resumed = make_strategy(job_of({.kind = "scaffold"}), schema);
        resumed->restore(strategy->state());
        CHECK(std::ranges::equal(resumed->control(), strategy->control()));
        CHECK_THROWS_AS(resumed->restore(std::array<float, 2>{1, 2}), PreconditionError);
        const auto fedavg = make_strategy(job_of({}), schema);
        CHECK(fedavg->control().empty());
        CHECK_FALSE(fedavg->follow(next).has_value());
    }

    TEST_CASE("the order in which updates came does not show in a step") {
        const Schema schema = partly_trained(1);
        const auto strategy = make_strategy(job_of({.kind = "fednova"}), schema);
        std::array<Contribution, 3> cohort{Contribution{3, 7}, Contribution{1'000'000, 1}, Contribution{7, 1001}};
        std::array<float, 1> one{0.1F}, other{0.1F};
        const std::array<float, 1> model{0.3F};
        strategy->apply(model, one, cohort);
        std::swap(cohort[0], cohort[2]);
        strategy->apply(model, other, cohort);
        CHECK(one == other);
    }

    TEST_CASE("no client's steps count for more than those of the samples that it can weigh") {
        const Schema schema = partly_trained(1);
        Job job = job_of({.kind = "fednova", .sample_cap = 640});
        job.train.batch_size = 32;
        const auto strategy = make_strategy(job, schema);
        const auto step = [&](std::uint32_t steps) {
            std::array<float, 1> next{0.01F};
            strategy->apply(std::array<float, 1>{1}, next, std::array{Contribution{.weight = 640, .steps = steps}});
            return next[0];
        };
        CHECK(step(0xffffffff) == step(20));
        CHECK(step(19) < step(20));
    }

    TEST_CASE("running statistics become their mean, whatever is done with gradients") {
        const Schema schema = partly_trained(1, 1);
        for (const char* kind : {"fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi", "fednova", "scaffold"}) {
            CAPTURE(kind);
            const auto strategy = make_strategy(job_of({.kind = kind, .server_lr = 0.25}), schema);
            std::array<float, 2> next{1, 0.5F};
            strategy->apply(std::array<float, 2>{1, 2}, next, kOne);
            CHECK(next[1] == 2.5F);
            CHECK(next[0] != 2);
        }
    }

    TEST_CASE("no client weighs more than the cap, whatever it says it has, and uniform weights are one number") {
        const Schema schema = partly_trained(1);
        const auto capped = make_strategy(job_of({.sample_cap = 100}), schema);
        CHECK(capped->weight(99) == 99);
        CHECK(capped->weight(101) == 100);
        CHECK(capped->weight(std::uint64_t{1} << 39) == 100);
        const auto uniform = make_strategy(job_of({.weights = "uniform"}), schema);
        CHECK(uniform->weight(99) == Strategy::kUniformWeight);
        CHECK(uniform->weight(std::uint64_t{1} << 39) == Strategy::kUniformWeight);
    }

    TEST_CASE("fedavg carries no state from round to round, and nobody takes another's") {
        const Schema schema = partly_trained(2);
        const auto fedavg = make_strategy(job_of({}), schema);
        CHECK(fedavg->state().empty());
        CHECK_NOTHROW(fedavg->restore({}));
        CHECK_THROWS_AS(fedavg->restore(std::array<float, 1>{1}), PreconditionError);
        const auto adam = make_strategy(job_of({.kind = "fedadam"}), schema);
        CHECK_NOTHROW(adam->restore({}));
        CHECK_NOTHROW(adam->restore(std::array<float, 4>{1, 2, 3, 4}));
        CHECK_THROWS_AS(adam->restore(std::array<float, 2>{1, 2}), PreconditionError);
    }

    TEST_CASE("an update of another size is refused") {
        const Schema schema = partly_trained(2);
        const auto strategy = make_strategy(job_of({}), schema);
        std::array<float, 2> update{1, 2};
        CHECK_THROWS_AS(strategy->apply(std::array<float, 1>{1}, update, kOne), PreconditionError);
    }

    TEST_CASE("an unknown strategy is refused by the name of its key") {
        const Schema schema = partly_trained(1);
        CHECK_THROWS_WITH_AS(make_strategy(job_of({.kind = "krum"}), schema),
                             "federation.strategy.kind: expected one of \"fedavg\", \"fedavgm\", \"fedadagrad\", "
                             "\"fedadam\", \"fedyogi\", \"fednova\", \"scaffold\", found \"krum\"",
                             InputError);
    }
}
