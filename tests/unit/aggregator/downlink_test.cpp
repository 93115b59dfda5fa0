#include "aggregator/server.hpp"

#include "aggregator/checkpoint.hpp"
#include "core/error.hpp"
#include "core/vector_math.hpp"
#include "tests/unit/aggregator/fake_federation.hpp"

#include <doctest/doctest.h>

#include <map>
#include <mutex>

using namespace dither;
using namespace dither::test;

namespace {

/// Wide enough for changes to be much smaller than the model.
Job wide_job() {
    Job job = small_job();
    job.model.hidden = {300};
    job.job.rounds = 6;
    job.precision.guard_loss = 0;
    return job;
}

/// What each client was sent, and when.
struct Log {
    std::mutex mutex;
    std::map<std::uint32_t, std::vector<RoundPlan>> sent;
};

Behaviour logging(Log& log, Behaviour inner) {
    return [&log, inner = std::move(inner)](std::size_t nth, const RoundPlan& task) {
        {
            const std::lock_guard lock(log.mutex);
            log.sent[task.client].push_back(task);
        }
        return inner(nth, task);
    };
}

std::uint64_t total_down(const std::filesystem::path& folder) {
    std::uint64_t bytes = 0;
    for (const nlohmann::json& round : rounds_of(folder))
        bytes += round["bytes_down"].get<std::uint64_t>();
    return bytes;
}

/// A client of its own, which now and then has lost what it held.
FakePeer forgetful(const Job& job, std::uint32_t client, std::uint32_t loses_in) {
    struct Memory {
        std::unique_ptr<FakeTrainer> trainer;
        std::uint32_t lost_in = 0;
    };
    const auto behaviour = [=, memory = std::make_shared<Memory>()](std::size_t, const RoundPlan& task) -> Answers {
        if (!memory->trainer || (task.round >= loses_in && memory->lost_in == 0)) {
            memory->trainer = std::make_unique<FakeTrainer>(job);
            memory->lost_in = task.round >= loses_in ? task.round : 0;
        }
        try {
            return std::vector<Message>{memory->trainer->train(task)};
        } catch (const ModelMissing& missing) {
            return std::vector<Message>{Failed{task.round, task.client, false, true, missing.what()}};
        }
    };
    return {behaviour, client};
}

Job few_clients() {
    Job job = wide_job();
    job.federation.clients = 4;
    job.federation.cohort = 4;
    return job;
}

/// Nodes hold a control variate beside the model.
Job controlled(Job job) {
    job.federation.strategy.kind = "scaffold";
    job.train.optimizer.momentum = 0;
    return job;
}

std::vector<FakePeer> one_peer_a_client(const Job& job, std::uint32_t forgetful_one, std::uint32_t loses_in) {
    std::vector<FakePeer> peers;
    for (std::uint32_t client = 0; client < job.federation.clients; ++client)
        peers.push_back(forgetful(job, client, client == forgetful_one ? loses_in : 1000));
    return peers;
}

}  // namespace

TEST_SUITE("aggregator/downlink") {
    TEST_CASE("clients are sent what has changed since they were last counted, and never a whole model") {
        const Job job = wide_job();
        const TemporaryFolder folder;
        Log log;
        run(job, folder.path(), {{logging(log, honest(job))}});
        for (const auto& [client, plans] : log.sent) {
            std::uint32_t counted = 0;
            for (const RoundPlan& plan : plans) {
                CHECK(plan.counted == counted);
                CHECK(plan.base >= 1);
                CHECK(plan.base <= std::max<std::uint32_t>(counted, 1));
                counted = plan.round;
            }
        }
        CHECK(total_of(rounds_of(folder.path()), "whole_models") == 0);
    }

    TEST_CASE("changes take fewer bytes than whole models") {
        Job job = few_clients();
        const TemporaryFolder changes;
        const TemporaryFolder models;
        run_honestly(job, changes.path());
        job.codec.downlink_of = "model";
        run_honestly(job, models.path());
        CHECK(total_of(rounds_of(models.path()), "whole_models") == 24);
        CHECK(total_down(changes.path()) < total_down(models.path()));
    }

    TEST_CASE("neither bytes nor bits depend on how many workers host the clients") {
        for (const Job& job : {wide_job(), controlled(wide_job())}) {
            const TemporaryFolder one;
            const TemporaryFolder three;
            const RunResult expected = run_honestly(job, one.path());
            CHECK(run(job, three.path(), {{honest(job)}, {honest(job)}, {honest(job)}}).model == expected.model);
            CHECK(rounds_of(three.path()) == rounds_of(one.path()));
        }
    }

    TEST_CASE("workers that begin in the middle of a run change neither bytes nor bits") {
        std::vector<Job> jobs(3, wide_job());
        jobs[1].codec.downlink.feedback = "on";
        jobs[2] = controlled(jobs[2]);
        for (Job& job : jobs) {
            job.codec.downlink.bits = 8;  // few parts fit into the history
            const TemporaryFolder whole;
            const TemporaryFolder halves;
            const RunResult expected = run_honestly(job, whole.path());
            run_honestly(job, halves.path(), {.stop_after = 5});
            CHECK(load_checkpoint(halves.path() / "model.dither").history.reach > 1);
            CHECK(run_honestly(job, halves.path(), {.resume = true}).model == expected.model);
            CHECK(rounds_of(halves.path()) == rounds_of(whole.path()));
        }
    }

    TEST_CASE("the checkpoint knows what clients hold, and what encoding lost where that is fed back") {
        Job job = wide_job();
        for (const bool feedback : {false, true}) {
            job.codec.downlink.feedback = feedback ? "on" : "auto";
            const TemporaryFolder folder;
            run_honestly(job, folder.path());
            const Checkpoint checkpoint = load_checkpoint(folder.path() / "model.dither");
            CHECK(checkpoint.counted.clients().size() <= 12);
            CHECK(std::ranges::count(checkpoint.counted.values(), 6U) == 4);
            CHECK(checkpoint.history.last() == 7);
            CHECK(checkpoint.residual.size() == (feedback ? checkpoint.model.size() : 0));
        }
    }

    TEST_CASE("a node that has lost its model is sent a whole one once, and the run goes on to the same bits") {
        for (const Job& job : {few_clients(), controlled(few_clients())}) {
            const TemporaryFolder calm;
            const TemporaryFolder forgetting;
            const RunResult expected = run(job, calm.path(), one_peer_a_client(job, 0, 1000));
            CHECK(run(job, forgetting.path(), one_peer_a_client(job, 2, 4)).model == expected.model);
            CHECK(total_of(rounds_of(calm.path()), "whole_models") == 0);
            const auto rounds = rounds_of(forgetting.path());
            CHECK(total_of(rounds, "whole_models") == 1);
            CHECK(rounds[3]["whole_models"] == 1);
            CHECK(rounds[3]["bytes_down"] > rounds_of(calm.path())[3]["bytes_down"]);
            CHECK(rounds[4]["bytes_down"] == rounds_of(calm.path())[4]["bytes_down"]);
        }
    }

    TEST_CASE("a control variate costs 8 bytes a change, and nothing more") {
        const Job job = controlled(few_clients());
        const TemporaryFolder folder;
        Log log;
        run(job, folder.path(), {{logging(log, honest(job))}});
        for (const auto& [client, plans] : log.sent)
            for (const RoundPlan& plan : plans) {
                CHECK(plan.control.empty());
                for (const ModelPart& part : plan.parts) {
                    CHECK(part.control.has_value());
                    CHECK(part.wire_bytes() ==
                          ModelPart{.steps = part.steps, .payload = part.payload}.wire_bytes() + 8);
                }
            }
        const Checkpoint checkpoint = load_checkpoint(folder.path() / "model.dither");
        REQUIRE(checkpoint.strategy.size() > checkpoint.model.size());
        CHECK(max_magnitude(std::span(checkpoint.strategy).first(checkpoint.model.size())) > 0);
    }

    TEST_CASE("a node that needs a model again and again is lost, and no round waits for it") {
        const Job job = few_clients();
        auto peers = one_peer_a_client(job, 0, 1000);
        peers[1].behaviour = [](std::size_t, const RoundPlan& task) -> Answers {
            return std::vector<Message>{Failed{task.round, task.client, false, true, "no memory"}};
        };
        const TemporaryFolder folder;
        run(job, folder.path(), peers);
        for (const nlohmann::json& round : rounds_of(folder.path())) {
            CHECK(round["participants"] == 3);
            CHECK(round["dropped"] == 1);
        }
    }

    TEST_CASE("an abandoned round changes nothing, and its successor follows from the same model") {
        Job job = few_clients();
        job.federation.quorum = 1;
        const TemporaryFolder folder;
        Log log;
        run(job, folder.path(), {{logging(log, failing(job, 3, 1, false))}});
        const auto rounds = rounds_of(folder.path());
        CHECK(rounds[2]["committed"] == false);
        CHECK(rounds[2]["model_sha256"] == rounds[1]["model_sha256"]);
        CHECK(rounds[3]["committed"] == true);
        for (const auto& [client, plans] : log.sent) {
            const auto found = std::ranges::find(plans, 4U, &RoundPlan::round);
            REQUIRE(found != plans.end());
            const RoundPlan& after = *found;
            CHECK(after.counted == 2);
            CHECK(after.base == 2);
            CHECK_FALSE(after.parts[0].payload.empty());
            CHECK(after.parts[1] == ModelPart{.round = 4});
        }
        CHECK(total_of(rounds, "whole_models") == 0);
    }

    TEST_CASE("a codec that takes a whole model's bytes for a change sends whole models") {
        Job job = wide_job();
        job.codec.downlink.kind = "raw";
        const TemporaryFolder folder;
        run_honestly(job, folder.path());
        const auto rounds = rounds_of(folder.path());
        CHECK(rounds[0]["whole_models"] == 0);
        CHECK(total_of(rounds, "whole_models") == 20);
    }

    TEST_CASE("a biased codec of the downlink is fed back what it lost, through interrupts") {
        Job job = wide_job();
        job.codec.downlink.kind = "sign";
        const TemporaryFolder whole;
        const TemporaryFolder halves;
        const RunResult expected = run_honestly(job, whole.path());
        CHECK(load_checkpoint(whole.path() / "model.dither").residual.size() > 0);
        run_honestly(job, halves.path(), {.stop_after = 3});
        CHECK(run_honestly(job, halves.path(), {.resume = true}).model == expected.model);
    }
}
