#include "node/control_variate.hpp"

#include <fstream>
#include <limits>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "tests/unit/partly_trained.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace dither;
using test::partly_trained;
using test::TemporaryFolder;

namespace {

Job job_of(double lr, double correction) {
    Job job;
    job.train.optimizer.lr = lr;
    job.federation.strategy.correction = correction;
    return job;
}

/// Of one worker, for all clients.
struct Bench {
    Bench(double lr, const Schema& of, double correction = 1) : schema(of), job(job_of(lr, correction)) {}
    Schema schema;
    TemporaryFolder folder;
    Job job;
    ControlVariate variate{job, ResidualStore(folder.path() / "controls", schema.parameters()), schema};
};

std::vector<float> floats(const nlohmann::json& values) {
    return values.get<std::vector<float>>();
}

}  // namespace

TEST_SUITE("node/control_variate") {
    TEST_CASE("clients' control variates are those of the paper's algorithm, within 1e-6, though updates are lost") {
        const auto json = nlohmann::json::parse(std::ifstream(DITHER_GOLDEN_DIR "/strategies.json"));
        for (const auto& run : json["scaffold"]) {
            const std::size_t size = run["start"].size();
            Bench bench(run["lr"], partly_trained(static_cast<std::int64_t>(size)));
            std::vector<std::uint32_t> counted(run["samples"].size());
            std::vector<float> control(size);
            const auto keep = [&](std::uint32_t client, std::uint32_t round, const nlohmann::json& update) {
                bench.variate.begin({.round = round, .client = client, .counted = counted[client]});
                bench.variate.keep(control, floats(update), run["steps"][client]);
            };
            for (std::uint32_t round = 1; round <= run["rounds"].size(); ++round) {
                const auto& now = run["rounds"][round - 1];
                for (std::uint32_t client = 0; client < counted.size(); ++client)
                    keep(client, round, run["start"]);  // of an update that is lost
                for (std::size_t k = 0; k < now["asked"].size(); ++k)
                    keep(now["asked"][k], round, now["updates"][k]);
                for (const std::uint32_t client : now["asked"])
                    counted[client] = round;
                control = floats(now["control"]);
                for (std::uint32_t client = 0; client < counted.size(); ++client) {
                    bench.variate.begin({.round = round + 1, .client = client, .counted = counted[client]});
                    for (std::size_t j = 0; j < size; ++j)
                        CHECK(bench.variate.own()[j] ==
                              doctest::Approx(now["own"][client][j].get<double>()).epsilon(1e-6).scale(1));
                }
            }
        }
    }

    TEST_CASE("what is not trained has no control variate") {
        Bench bench(0.5, partly_trained(1, 1));
        bench.variate.begin({.round = 1, .client = 3});
        bench.variate.keep(std::vector<float>{0.5F, 0}, std::vector<float>{2, 4}, 2);
        bench.variate.begin({.round = 2, .client = 3, .counted = 1});
        CHECK(bench.variate.own()[0] == -2.5F);
        CHECK(bench.variate.own()[1] == 0);
    }

    TEST_CASE("a share of the correction leaves that share of the last one in the next") {
        Bench bench(0.5, partly_trained(1), 0.25);
        bench.variate.begin({.round = 1, .client = 3});
        bench.variate.keep(std::vector<float>{8}, std::vector<float>{3}, 2);
        bench.variate.begin({.round = 2, .client = 3, .counted = 1});
        CHECK(bench.variate.own()[0] == 0.25F * (0 - 8) - 3);
        bench.variate.keep(std::vector<float>{4}, std::vector<float>{1}, 2);
        bench.variate.begin({.round = 3, .client = 3, .counted = 2});
        CHECK(bench.variate.own()[0] == 0.25F * (-5 - 4) - 1);
    }

    TEST_CASE("one that is not finite is not kept") {
        Bench bench(0.5, partly_trained(1));
        bench.variate.begin({.round = 1, .client = 3});
        const std::vector<float> update{std::numeric_limits<float>::max()};
        CHECK_THROWS_AS(bench.variate.keep(update, update, 1), TrainingError);
        bench.variate.begin({.round = 2, .client = 3, .counted = 1});
        CHECK(bench.variate.own()[0] == 0);
    }

    TEST_CASE("a round that was not begun keeps nothing") {
        Bench bench(0.5, partly_trained(1));
        const std::vector<float> update{1};
        CHECK_THROWS_AS(bench.variate.keep(update, update, 1), PreconditionError);
        bench.variate.begin({.round = 1, .client = 3});
        CHECK_THROWS_AS(bench.variate.keep(update, update, 0), PreconditionError);
    }
}
