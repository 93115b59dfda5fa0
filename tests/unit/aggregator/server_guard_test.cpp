// What the server does about rounds that go wrong, and about budgets: whole federations of scripted nodes.
#include "aggregator/checkpoint.hpp"
#include "core/error.hpp"
#include "tests/unit/aggregator/fake_federation.hpp"

#include <map>

#include <doctest/doctest.h>

using namespace dither;
using namespace dither::test;
using nlohmann::json;

namespace {

/// Every client is asked in every round.
Job guarded_job() {
    Job job = small_job();
    job.federation.clients = 4;
    job.precision.policy = "uniform";
    job.precision.bits = 8;
    job.job.rounds = 6;
    return job;
}

/// Honest but for the training losses of these rounds.
std::vector<FakePeer> with_losses(const Job& job, const std::map<std::uint32_t, float>& losses) {
    return {{dishonest(job, [losses](Update& update) {
        if (const auto scripted = losses.find(update.round); scripted != losses.end())
            update.report.train_loss = scripted->second;
    })}};
}

bool says(const json& round, std::string_view part) {
    return round["reason"].get<std::string>().find(part) != std::string::npos;
}

std::vector<json> run_with_losses(const Job& job, const std::map<std::uint32_t, float>& losses,
                                  const TemporaryFolder& folder) {
    run(job, folder.path(), with_losses(job, losses));
    return rounds_of(folder.path());
}

Behaviour diverging_in(const Job& job, std::uint32_t first, std::uint32_t last) {
    return [=, trainer = std::make_shared<FakeTrainer>(job)](std::size_t, const RoundPlan& task) -> Answers {
        if (task.round >= first && task.round <= last && task.client == 2)
            return std::vector<Message>{Failed{task.round, task.client, true, false, "the loss is NaN at step 3"}};
        return std::vector<Message>{trainer->train(task)};
    };
}

}  // namespace

TEST_SUITE("aggregator/server: guard") {
    TEST_CASE("a round whose training loss explodes goes back to the last model that was seen to be sound") {
        const TemporaryFolder folder;
        const auto rounds = run_with_losses(guarded_job(), {{4, 50.0F}}, folder);
        REQUIRE(rounds.size() == 6);
        CHECK(rounds[3]["committed"] == false);
        CHECK(rounds[3]["train_loss"] == 50);
        CHECK(rounds[3]["model_sha256"] == rounds[1]["model_sha256"]);  // round 3 trained from it, and was healthy
        CHECK(says(rounds[3], "the training loss of 50 is above 2 = 4 * 0.25 + 1"));
        CHECK(says(rounds[3], "the model of round 3 is given up for that of round 2"));
        CHECK(says(rounds[3], "forward 8 -> 16: the training loss of 50"));
        CHECK(rounds[4]["committed"] == true);
        CHECK(rounds[4]["layers"][0]["bits"]["forward"] == 16);
        CHECK(rounds[4]["model_sha256"] != rounds[2]["model_sha256"]);
    }

    TEST_CASE("a rollback survives an interrupt before and after it, to the bit") {
        const Job job = guarded_job();
        const std::map<std::uint32_t, float> losses{{4, 50.0F}};
        const TemporaryFolder whole;
        const auto expected = run_with_losses(job, losses, whole);
        for (const std::uint32_t stop : {2U, 3U, 4U, 5U}) {
            CAPTURE(stop);
            const TemporaryFolder halves;
            run(job, halves.path(), with_losses(job, losses), {.stop_after = stop});
            run(job, halves.path(), with_losses(job, losses), {.resume = true});
            CHECK(rounds_of(halves.path()) == expected);
            CHECK(load_checkpoint(halves.path() / "model.dither").good ==
                  load_checkpoint(whole.path() / "model.dither").good);
        }
    }

    TEST_CASE("a first round may have any loss, and a guard that is off lets all pass and keeps no second model") {
        Job job = guarded_job();
        const TemporaryFolder first;
        CHECK(run_with_losses(job, {{1, 1e6F}}, first)[0]["committed"] == true);
        job.precision.guard_loss = 0;
        const TemporaryFolder off;
        CHECK(run_with_losses(job, {{4, 1e6F}}, off)[3]["committed"] == true);
        CHECK(load_checkpoint(off.path() / "model.dither").good.model.empty());
        CHECK_FALSE(load_checkpoint(first.path() / "model.dither").good.model.empty());
    }

    TEST_CASE("a lying minority cannot make a round look diverged") {
        const Job job = [] {
            Job with_crowd = guarded_job();
            with_crowd.federation.clients = with_crowd.federation.cohort = 5;
            return with_crowd;
        }();
        for (const float lie : {1e30F, 0.0F}) {
            const TemporaryFolder folder;
            const auto liar = [lie](Update& update) {
                if (update.client == 3)
                    update.report.train_loss = lie;
            };
            run(job, folder.path(), {{dishonest(job, liar)}});
            for (const json& round : rounds_of(folder.path()))
                CHECK(round["committed"] == true);
        }
    }

    TEST_CASE("a divergence on a model that no round has shown to be sound goes back one model further") {
        const Job job = guarded_job();
        const TemporaryFolder folder;
        run(job, folder.path(), {{diverging_in(job, 3, 4)}});
        const auto rounds = rounds_of(folder.path());
        REQUIRE(rounds.size() == 6);
        CHECK(rounds[2]["model_sha256"] == rounds[0]["model_sha256"]);
        CHECK(says(rounds[2], "the model of round 2 is given up for that of round 1"));
        CHECK(rounds[3]["committed"] == false);
        CHECK(rounds[3]["model_sha256"] == rounds[0]["model_sha256"]);  // no further
        CHECK(rounds[4]["committed"] == true);
        CHECK(rounds[4]["layers"][0]["bits"]["forward"] == 32);
    }

    TEST_CASE("a loss that stays beyond reach ends the run with its cause") {
        const Job job = guarded_job();
        const TemporaryFolder folder;
        std::string error;
        try {
            run(job, folder.path(), with_losses(job, {{3, 1e3F}, {4, 1e3F}, {5, 1e3F}}));
        } catch (const TrainingError& e) {
            error = e.what();
        }
        CHECK(error.find("the training loss of 1000 is above") != std::string::npos);
        CHECK(load_checkpoint(folder.path() / "model.dither").round == 4);
    }

    TEST_CASE("a refusal with nothing left to change is tried again, for the guard can be wrong") {
        Job job = guarded_job();
        job.precision.policy = "fp32";
        const TemporaryFolder folder;
        const auto rounds = run_with_losses(job, {{3, 50.0F}, {4, 50.0F}}, folder);
        REQUIRE(rounds.size() == 6);
        CHECK(rounds[3]["committed"] == false);
        CHECK(rounds[3]["changes"].empty());
        CHECK(rounds[4]["committed"] == true);
    }

    TEST_CASE("one client of many that says in every round that it diverged raises no bits and ends no run") {
        Job job = guarded_job();
        job.federation.clients = job.federation.cohort = 8;
        const TemporaryFolder folder;
        run(job, folder.path(), {{diverging_in(job, 1, 6)}});
        for (const json& round : rounds_of(folder.path())) {
            CHECK(round["committed"] == true);
            CHECK(round["dropped"] == 1);
            CHECK(round["layers"][0]["bits"]["forward"] == 8);
        }
    }

    TEST_CASE("measurements that nobody asked for do not count") {
        Job job = guarded_job();
        job.precision.policy = "numgeom";
        job.precision.curvature_clients = 1;
        const auto lie = [](Update& update) {
            for (LayerStatistics& layer : update.report.layers)
                if (layer.forward_sensitivity < 0)
                    layer.forward_sensitivity = layer.curvature_norm = layer.curvature_trace = layer.lipschitz = 1e6F;
        };
        const TemporaryFolder calm;
        const TemporaryFolder stormy;
        const RunResult expected = run_honestly(job, calm.path());
        CHECK(run(job, stormy.path(), {{dishonest(job, lie)}}).model == expected.model);
        CHECK(rounds_of(stormy.path()) == rounds_of(calm.path()));
    }

    TEST_CASE("clipped values raise the bits of their layer alone") {
        const Job job = guarded_job();
        const TemporaryFolder folder;
        const auto clip = [](Update& update) {
            if (update.round == 2)
                update.report.layers[1].saturation = 0.75F;
        };
        run(job, folder.path(), {{dishonest(job, clip)}});
        const auto rounds = rounds_of(folder.path());
        CHECK(says(rounds[1], "forward 8 -> 16: held at 16 bits after 0.75 of its values were clipped in round 2"));
        CHECK(rounds[2]["layers"][1]["bits"]["forward"] == 16);
        CHECK(rounds[2]["layers"][0]["bits"]["forward"] == 8);
    }
}

TEST_SUITE("aggregator/server: byte budget") {
    std::uint64_t bytes_of(const json& round) {
        return round["bytes_up"].get<std::uint64_t>() + round["bytes_down"].get<std::uint64_t>();
    }

    Job wide_job() {
        Job job = guarded_job();
        job.model.hidden = {600};
        job.precision.uplink_noise = 0.05;  // grids that a budget can still make coarser
        job.job.rounds = 8;
        return job;
    }

    TEST_CASE("a round's bytes stay within the budget once a round was measured, and use it") {
        Job job = wide_job();
        const TemporaryFolder free_run;
        run_honestly(job, free_run.path());
        const std::uint64_t usual = bytes_of(rounds_of(free_run.path()).back());
        for (const double share : {0.8, 0.5}) {
            CAPTURE(share);
            const TemporaryFolder folder;
            job.precision.byte_budget = static_cast<std::uint64_t>(share * static_cast<double>(usual));
            run_honestly(job, folder.path());
            const auto rounds = rounds_of(folder.path());
            for (std::size_t i = 1; i < rounds.size(); ++i) {
                CAPTURE(i);
                // Before two rounds were measured, updates that follow a change can take a tenth more than those
                // before.
                const double judged = i < 3 ? 1.1 : 1;
                CHECK(static_cast<double>(bytes_of(rounds[i])) <=
                      judged * static_cast<double>(job.precision.byte_budget));
                if (i > 2)  // no round pays for the one before
                    CHECK(rounds[i]["bytes_down"].get<double>() < 1.5 * rounds[i - 1]["bytes_down"].get<double>());
                if (i > 1)
                    CHECK(static_cast<double>(bytes_of(rounds[i])) >
                          0.75 * static_cast<double>(job.precision.byte_budget));
            }
            const std::string bound = fmt::format("byte_budget {}: grids ", job.precision.byte_budget);
            CHECK(std::ranges::any_of(rounds, [&](const json& round) { return says(round, bound); }));
        }
    }

    TEST_CASE("a budget that is out of reach is said to be, and the run goes on") {
        Job job = wide_job();
        job.precision.byte_budget = 1000;
        const TemporaryFolder folder;
        CHECK_FALSE(run_honestly(job, folder.path()).interrupted);
        for (const json& round : rounds_of(folder.path()))
            CHECK(says(round, "byte_budget 1000 cannot be kept: the coarsest grids take"));
    }

    TEST_CASE("a budget survives an interrupt, to the bit") {
        Job job = wide_job();
        job.precision.byte_budget = 20'000;
        const TemporaryFolder whole;
        const TemporaryFolder halves;
        const RunResult expected = run_honestly(job, whole.path());
        run_honestly(job, halves.path(), {.stop_after = 3});
        CHECK(run_honestly(job, halves.path(), {.resume = true}).model == expected.model);
        CHECK(rounds_of(halves.path()) == rounds_of(whole.path()));
    }
}
