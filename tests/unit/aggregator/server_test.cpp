#include "aggregator/server.hpp"

#include "aggregator/checkpoint.hpp"
#include "core/error.hpp"
#include "tests/unit/aggregator/fake_federation.hpp"

#include <chrono>

#include <doctest/doctest.h>

using namespace dither;
using namespace dither::test;
using nlohmann::json;

namespace fs = std::filesystem;

namespace {

template <typename Exception>
std::string message_of(const std::function<void()>& action) {
    try {
        action();
    } catch (const Exception& e) {
        return e.what();
    }
    return "";
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

/// A client that small_job() asks in its first round.
std::uint32_t first_asked(const Job& job) {
    const TemporaryFolder folder;
    std::uint32_t client = 0;
    const auto trainer = std::make_shared<FakeTrainer>(job);
    Job one_round = job;
    one_round.job.rounds = 1;
    run(one_round, folder.path(), {{[&client, trainer](std::size_t nth, const RoundPlan& task) -> Answers {
            client = nth == 0 ? task.client : client;
            return std::vector<Message>{trainer->train(task)};
        }}});
    return client;
}

}  // namespace

TEST_SUITE("aggregator/server") {
    TEST_CASE("a run leaves its files, and they agree with each other") {
        const TemporaryFolder folder;
        const Job job = small_job();
        const RunResult result = run_honestly(job, folder.path());
        CHECK_FALSE(result.interrupted);
        const auto rounds = rounds_of(folder.path());
        REQUIRE(rounds.size() == 5);
        const json summary = json::parse(read_text(folder.path() / "summary.json"));
        CHECK(summary["model_sha256"] == to_hex(result.model));
        CHECK(rounds.back()["model_sha256"] == to_hex(result.model));
        CHECK(summary["final_accuracy"] == rounds.back()["test_accuracy"]);
        CHECK(summary["bytes_up"] == total_of(rounds, "bytes_up"));
        CHECK(summary["bytes_down"] == total_of(rounds, "bytes_down"));
        CHECK(summary["samples"] == total_of(rounds, "samples"));
        CHECK(total_of(rounds, "participants") == 20);
        const Checkpoint checkpoint = load_checkpoint(folder.path() / "model.dither");
        CHECK(checkpoint.round == 5);
        CHECK(sha256(std::span<const float>(checkpoint.model)) == result.model);
        CHECK(checkpoint.totals == result.totals);
        for (const Phase phase : kPhases)
            CHECK(checkpoint.evaluated_plan.layers[0][phase] ==
                  rounds.back()["layers"][0]["bits"][std::string(name_of(phase))]);
        CHECK(summary["bit_ops_probe"] > 0);
        CHECK(read_text(folder.path() / "job.resolved.toml") == to_toml(job));
    }

    TEST_CASE("the model and the log are the same for one peer and for three that answer in their own time") {
        const TemporaryFolder one;
        const TemporaryFolder three;
        const Job job = small_job();
        const RunResult alone = run_honestly(job, one.path());
        const auto slow = [&](int factor) -> Behaviour {
            return [=, inner = honest(job)](std::size_t nth, const RoundPlan& task) {
                std::this_thread::sleep_for(std::chrono::milliseconds(task.client * factor % 7));
                return inner(nth, task);
            };
        };
        const RunResult together = run(job, three.path(), {{slow(5)}, {slow(3)}, {slow(0)}});
        CHECK(together.model == alone.model);
        CHECK(rounds_of(three.path()) == rounds_of(one.path()));
    }

    TEST_CASE("raw fp32 traffic is as order-free as the grid's") {
        Job job = small_job();
        job.codec.uplink.kind = "raw";
        job.codec.downlink.kind = "raw";
        job.precision.policy = "fp32";
        const TemporaryFolder one;
        const TemporaryFolder two;
        CHECK(run(job, one.path(), {{honest(job)}, {honest(job)}}).model == run_honestly(job, two.path()).model);
    }

    TEST_CASE("peers that speak for one client each give the model of a worker that hosts them all") {
        Job job = small_job();
        job.federation.clients = 4;
        const TemporaryFolder worker;
        const TemporaryFolder daemons;
        std::vector<FakePeer> peers;
        for (std::uint32_t client = 0; client < 4; ++client)
            peers.push_back({honest(job), client});
        CHECK(run(job, daemons.path(), peers).model == run_honestly(job, worker.path()).model);
    }

    TEST_CASE("a lost worker's tasks go to another, and the model is the same") {
        const TemporaryFolder calm;
        const TemporaryFolder stormy;
        const Job job = small_job();
        const Behaviour leaves = [](std::size_t, const RoundPlan&) -> Answers { return std::nullopt; };
        const RunResult expected = run_honestly(job, calm.path());
        CHECK(run(job, stormy.path(), {{leaves}, {honest(job)}}).model == expected.model);
        CHECK(total_of(rounds_of(stormy.path()), "dropped") == 0);
    }

    TEST_CASE("a run whose last peer is gone ends with its reason") {
        const TemporaryFolder folder;
        const Job job = small_job();
        const Behaviour leaves = [](std::size_t, const RoundPlan&) -> Answers { return std::nullopt; };
        const auto error = message_of<TrainingError>([&] { run(job, folder.path(), {{leaves}}); });
        CHECK(contains(error, "no peer hosts it"));
        CHECK(rounds_of(folder.path()).size() == 3);
    }

    TEST_CASE("a refused update is counted, and the model is as if its client had failed") {
        const Job job = small_job();
        const std::uint32_t victim = first_asked(job);
        const TemporaryFolder without;
        const RunResult expected = run(job, without.path(), {{failing(job, 1, victim, false)}});
        CHECK(rounds_of(without.path())[0]["dropped"] == 1);

        const std::vector<std::pair<std::string, std::function<void(Update&)>>> attacks{
            {"another base", [](Update& update) { update.base[3] ^= 1U; }},
            {"another number of layers", [](Update& update) { update.report.layers.pop_back(); }},
            {"no samples", [](Update& update) { update.report.samples = 0; }},
            {"more steps than its samples make", [](Update& update) { ++update.report.steps; }},
            {"more samples than its steps take", [](Update& update) { update.report.samples = 33; }},
            {"absurd samples", [](Update& update) { update.report.samples = std::uint64_t{1} << 40; }},
            {"a garbage payload", [](Update& update) { update.payload.assign(5, std::byte{0xff}); }},
            {"no payload", [](Update& update) { update.payload.clear(); }}};
        for (const auto& [name, attack] : attacks) {
            CAPTURE(name);
            const TemporaryFolder folder;
            const auto meddle = [&](Update& update) {
                if (update.round == 1 && update.client == victim)
                    attack(update);
            };
            CHECK(run(job, folder.path(), {{dishonest(job, meddle)}}).model == expected.model);
            const auto rounds = rounds_of(folder.path());
            CHECK(rounds[0]["rejected"] == 1);
            CHECK(rounds[0]["participants"] == 3);
            CHECK(total_of(rounds, "rejected") == 1);
        }
    }

    TEST_CASE("an update that comes twice, or for a client that the peer was not asked for, changes nothing") {
        const Job job = small_job();
        const TemporaryFolder calm;
        const TemporaryFolder noisy;
        const Behaviour eager = [trainer = std::make_shared<FakeTrainer>(job)](std::size_t,
                                                                               const RoundPlan& task) -> Answers {
            const Update update = trainer->train(task);
            Update stolen = update;
            stolen.client = task.client + 1;
            stolen.round = task.round + 1;
            return std::vector<Message>{stolen, update, update};
        };
        const RunResult expected = run_honestly(job, calm.path());
        CHECK(run(job, noisy.path(), {{eager}}).model == expected.model);
        CHECK(total_of(rounds_of(noisy.path()), "participants") == 20);
        CHECK(total_of(rounds_of(noisy.path()), "rejected") >= 20);
    }

    TEST_CASE("a peer that breaks the protocol is sent away, and the run goes on without it") {
        const Job job = small_job();
        const TemporaryFolder calm;
        const TemporaryFolder folder;
        const Behaviour pretender = [](std::size_t, const RoundPlan& task) -> Answers {
            return std::vector<Message>{UpdateAck{task.round, task.client, true, ""}};
        };
        const RunResult expected = run_honestly(job, calm.path());
        CHECK(run(job, folder.path(), {{pretender}, {honest(job)}}).model == expected.model);
    }

    TEST_CASE("divergence under an fp32 plan ends the run with its cause and keeps the last good model") {
        Job job = small_job();
        job.precision.policy = "fp32";
        const std::uint32_t victim = first_asked(job);
        const TemporaryFolder folder;
        const auto error =
            message_of<TrainingError>([&] { run(job, folder.path(), {{failing(job, 1, victim, true)}}); });
        CHECK(contains(error, fmt::format("client {} diverged: the loss is NaN at step 3", victim)));
        CHECK(load_checkpoint(folder.path() / "model.dither").round == 0);
        const auto rounds = rounds_of(folder.path());
        REQUIRE(rounds.size() == 1);
        CHECK(rounds[0]["committed"] == false);
        CHECK(contains(rounds[0]["reason"].get<std::string>(), "the loss is NaN at step 3"));
    }

    TEST_CASE("divergence in few bits abandons the round, raises the bits and goes on") {
        Job job = small_job();
        job.precision.policy = "uniform";
        job.precision.bits = 8;
        const std::uint32_t victim = first_asked(job);
        const TemporaryFolder folder;
        CHECK_FALSE(run(job, folder.path(), {{failing(job, 1, victim, true)}}).interrupted);
        const Sha256 initial = [&] {
            const TemporaryFolder other;
            return run_honestly(job, other.path(), {.stop_at_once = true}).model;
        }();
        const auto rounds = rounds_of(folder.path());
        REQUIRE(rounds.size() == 5);
        CHECK(rounds[0]["committed"] == false);
        CHECK(rounds[0]["model_sha256"] == to_hex(initial));
        CHECK(rounds[0]["layers"][0]["bits"]["forward"] == 8);
        CHECK(rounds[1]["committed"] == true);
        CHECK(rounds[1]["layers"][0]["bits"]["forward"] == 16);
    }

    TEST_CASE("rounds that nobody answers are abandoned at their deadline, and three in a row end the run") {
        Job job = small_job();
        job.federation.deadline = std::chrono::milliseconds(20);
        const Behaviour silent = [](std::size_t, const RoundPlan&) -> Answers { return std::vector<Message>{}; };
        const TemporaryFolder folder;
        const auto error = message_of<TrainingError>([&] { run(job, folder.path(), {{silent}}); });
        CHECK(contains(error, "the deadline came with 0 updates"));
        CHECK(rounds_of(folder.path()).size() == 3);
    }

    TEST_CASE("an interrupted run that is resumed gives the model and the log of one that was not") {
        for (const std::string policy : {"numgeom", "gradient"}) {
            CAPTURE(policy);
            Job job = small_job();
            job.precision.policy = policy;
            const TemporaryFolder whole;
            const TemporaryFolder halves;
            const RunResult expected = run_honestly(job, whole.path());
            CHECK(run_honestly(job, halves.path(), {.stop_after = 2}).interrupted);
            CHECK(load_checkpoint(halves.path() / "model.dither").round == 2);
            const RunResult resumed = run_honestly(job, halves.path(), {.resume = true});
            CHECK(resumed.model == expected.model);
            CHECK(resumed.totals.bytes_up == expected.totals.bytes_up);
            CHECK(rounds_of(halves.path()) == rounds_of(whole.path()));
        }
    }

    TEST_CASE("a run that is stopped before its first round can be resumed") {
        const Job job = small_job();
        const TemporaryFolder whole;
        const TemporaryFolder folder;
        CHECK(run_honestly(job, folder.path(), {.stop_at_once = true}).interrupted);
        CHECK(run_honestly(job, folder.path(), {.resume = true}).model == run_honestly(job, whole.path()).model);
    }

    TEST_CASE("rounds that were logged but not kept are run again, to the same bits") {
        Job job = small_job();
        const TemporaryFolder folder;
        const RunResult whole = run_honestly(job, folder.path());
        const auto expected = rounds_of(folder.path());
        const TemporaryFolder earlier;
        run_honestly(job, earlier.path(), {.stop_after = 3});
        fs::copy_file(earlier.path() / "model.dither", folder.path() / "model.dither",
                      fs::copy_options::overwrite_existing);
        CHECK(run_honestly(job, folder.path(), {.resume = true}).model == whole.model);
        CHECK(rounds_of(folder.path()) == expected);
    }

    TEST_CASE("a crash between the checkpoint and the log loses no line") {
        const Job job = small_job();
        const TemporaryFolder folder;
        run_honestly(job, folder.path());
        const std::string log = read_text(folder.path() / "rounds.jsonl");
        write_text(folder.path() / "rounds.jsonl", log.substr(0, log.rfind('\n', log.size() - 2) + 1));
        run_honestly(job, folder.path(), {.resume = true});
        CHECK(read_text(folder.path() / "rounds.jsonl") == log);
    }

    TEST_CASE("a complete run that is resumed only writes its summary again, and can be given more rounds") {
        Job job = small_job();
        job.job.rounds = 3;
        const TemporaryFolder folder;
        const TemporaryFolder whole;
        const RunResult three = run_honestly(job, folder.path());
        fs::remove(folder.path() / "summary.json");
        CHECK(run(job, folder.path(), {}, {.resume = true}).model == three.model);
        CHECK(fs::exists(folder.path() / "summary.json"));
        job.job.rounds = 5;
        CHECK(run_honestly(job, folder.path(), {.resume = true}).model == run_honestly(job, whole.path()).model);
    }

    TEST_CASE("a checkpoint of another job is refused by the keys that differ, and nothing is overwritten") {
        Job job = small_job();
        const TemporaryFolder folder;
        run_honestly(job, folder.path(), {.stop_after = 1});
        const std::string resolved = read_text(folder.path() / "job.resolved.toml");
        job.job.seed = 99;
        job.train.epochs = 7;
        const auto error = message_of<InputError>([&] { run_honestly(job, folder.path(), {.resume = true}); });
        CHECK(contains(error, "is a checkpoint of another job: it differs in job.seed, train.epochs"));
        CHECK(read_text(folder.path() / "job.resolved.toml") == resolved);
    }

    TEST_CASE("a report that claims the impossible changes nothing beyond its own update") {
        const Job job = small_job();
        const TemporaryFolder honest_run;
        const TemporaryFolder folder;
        const auto boast = [](Update& update) {
            for (LayerStatistics& layer : update.report.layers)
                layer.update_range = layer.update_rms = 1e31F;
        };
        run_honestly(job, honest_run.path());
        CHECK_FALSE(run(job, folder.path(), {{dishonest(job, boast)}}).interrupted);
        const auto expected = rounds_of(honest_run.path());
        const auto rounds = rounds_of(folder.path());
        CHECK(total_of(rounds, "participants") == 20);
        CHECK(rounds[0]["model_sha256"] == expected[0]["model_sha256"]);
        for (const json& round : rounds)
            for (const json& layer : round["layers"]) {
                CHECK(layer["update_range"] < 10);  // what codes times steps can reach
                CHECK(layer["update_rms"] <= layer["update_range"]);
            }
    }

    TEST_CASE("an averaged model that cannot be evaluated is not kept, whatever the nodes reported") {
        Job job = small_job();
        job.federation.strategy.server_lr = 1e25;
        job.precision.policy = "uniform";
        job.precision.bits = 8;
        const TemporaryFolder folder;
        const TemporaryFolder untouched;
        const Sha256 initial = run_honestly(job, untouched.path(), {.stop_at_once = true}).model;
        const auto error = message_of<TrainingError>([&] { run_honestly(job, folder.path()); });
        CHECK(contains(error, "the averaged model diverged"));
        const auto rounds = rounds_of(folder.path());
        REQUIRE(rounds.size() == 3);
        for (const json& round : rounds) {
            CHECK(round["committed"] == false);
            CHECK(round["model_sha256"] == to_hex(initial));
            CHECK(round["participants"] == 4);
            CHECK(contains(round["reason"].get<std::string>(), "the averaged model diverged"));
        }
        CHECK(rounds[1]["layers"][0]["bits"]["forward"] == 16);  // the alarm of the first
        const Checkpoint checkpoint = load_checkpoint(folder.path() / "model.dither");
        CHECK(checkpoint.round == 2);
        CHECK(checkpoint.abandoned_in_a_row == 2);
        CHECK(sha256(std::span<const float>(checkpoint.model)) == initial);
    }

    TEST_CASE("a run that gave up and is resumed tries its last round again, and only that one") {
        Job job = small_job();
        job.federation.deadline = std::chrono::hours(1000);
        Clock::time_point virtual_now{};
        const auto hurry = [&] { return virtual_now += std::chrono::hours(400); };
        const Behaviour silent = [](std::size_t, const RoundPlan&) -> Answers { return std::vector<Message>{}; };
        const TemporaryFolder folder;
        CHECK_THROWS_AS(run(job, folder.path(), {{silent}}, {.now = hurry}), TrainingError);
        CHECK_THROWS_AS(run(job, folder.path(), {{silent}}, {.resume = true, .now = hurry}), TrainingError);
        auto rounds = rounds_of(folder.path());
        REQUIRE(rounds.size() == 3);
        CHECK(rounds[2]["round"] == 3);
        CHECK(load_checkpoint(folder.path() / "model.dither").abandoned_in_a_row == 2);
        CHECK_FALSE(run(job, folder.path(), {{honest(job)}}, {.resume = true}).interrupted);
        rounds = rounds_of(folder.path());
        REQUIRE(rounds.size() == 5);
        CHECK(rounds[2]["committed"] == true);
    }

    TEST_CASE("deadlines and seconds are those of the clock that the server is given") {
        Job job = small_job();
        job.federation.deadline = std::chrono::hours(1000);
        job.job.rounds = 2;
        Clock::time_point virtual_now{};
        const Behaviour silent = [](std::size_t, const RoundPlan&) -> Answers { return std::vector<Message>{}; };
        const TemporaryFolder folder;
        RunResult result =
            run(job, folder.path(), {{silent}}, {.now = [&] { return virtual_now += std::chrono::hours(400); }});
        CHECK(result.totals.rounds == 2);
        CHECK(result.totals.seconds >= 2 * 1000 * 3600.0);
        CHECK(contains(rounds_of(folder.path())[0]["reason"].get<std::string>(), "the deadline came"));
    }

    TEST_CASE("a client whose task ends two workers is lost, and the third worker lives") {
        const Job job = small_job();
        const std::uint32_t victim = first_asked(job);
        const TemporaryFolder without;
        const TemporaryFolder folder;
        const Behaviour poisoned = [=, trainer = std::make_shared<FakeTrainer>(job)](std::size_t,
                                                                                     const RoundPlan& task) -> Answers {
            if (task.round == 1 && task.client == victim)
                return std::nullopt;
            return std::vector<Message>{trainer->train(task)};
        };
        const RunResult expected = run(job, without.path(), {{failing(job, 1, victim, false)}});
        const RunResult result = run(job, folder.path(), {{poisoned}, {poisoned}, {poisoned}});
        CHECK(result.model == expected.model);
        CHECK(rounds_of(folder.path())[0]["dropped"] == 1);
    }

    TEST_CASE("only the rounds that are due are evaluated, and the last one always") {
        Job job = small_job();
        job.job.evaluate_every = 2;
        const TemporaryFolder folder;
        run_honestly(job, folder.path());
        const auto rounds = rounds_of(folder.path());
        for (const std::size_t round : {1U, 3U, 4U})
            CHECK(rounds[round]["test_accuracy"].is_number());
        for (const std::size_t round : {0U, 2U})
            CHECK(rounds[round]["test_accuracy"].is_null());
    }

    TEST_CASE("the average is the mean of the models since its start, and leaves the model itself alone") {
        Job job = small_job();
        const TemporaryFolder plain;
        const RunResult expected = run_honestly(job, plain.path());
        job.train.swa_start = 3;
        const TemporaryFolder folder;
        const RunResult result = run_honestly(job, folder.path());
        CHECK(result.model == expected.model);
        std::vector<double> sum;
        for (const std::uint32_t last : {3U, 4U, 5U}) {
            const TemporaryFolder shorter;
            run_honestly(job, shorter.path(), {.stop_after = last});
            const std::vector<float> model = load_checkpoint(shorter.path() / "model.dither").model;
            sum.resize(model.size());
            for (std::size_t i = 0; i < model.size(); ++i)
                sum[i] += model[i];
        }
        const Checkpoint checkpoint = load_checkpoint(folder.path() / "model.dither");
        CHECK(checkpoint.averaged_rounds == 3);
        REQUIRE(checkpoint.averaged.size() == sum.size());
        for (std::size_t i = 0; i < sum.size(); ++i)
            CHECK(std::abs(checkpoint.averaged[i] - sum[i] / 3) < 1e-6);
        CHECK(load_checkpoint(plain.path() / "model.dither").averaged.empty());
    }

    TEST_CASE("the average is evaluated with the model, from its start on") {
        Job job = small_job();
        job.train.swa_start = 2;
        job.job.evaluate_every = 2;
        const TemporaryFolder folder;
        run_honestly(job, folder.path());
        const auto rounds = rounds_of(folder.path());
        for (const json& round : rounds)
            CHECK(round.contains("swa_accuracy") ==
                  (round["round"] == 2 || round["round"] == 4 || round["round"] == 5));
        CHECK(rounds[1]["swa_loss"] == rounds[1]["test_loss"]);  // the mean of one model
        CHECK(rounds[4]["swa_loss"] != rounds[4]["test_loss"]);
        const json summary = json::parse(read_text(folder.path() / "summary.json"));
        CHECK(summary["swa_loss"] == rounds[4]["swa_loss"]);
        CHECK(summary["swa_accuracy"] == rounds[4]["swa_accuracy"]);
    }

    TEST_CASE("an average survives an interrupt, to the bit") {
        Job job = small_job();
        job.train.swa_start = 2;
        const TemporaryFolder whole;
        const TemporaryFolder halves;
        run_honestly(job, whole.path());
        for (const std::uint32_t stop : {1U, 3U}) {
            run_honestly(job, halves.path(), {.resume = stop > 1, .stop_after = stop});
            CHECK(load_checkpoint(halves.path() / "model.dither").averaged_rounds == stop - 1);
        }
        run_honestly(job, halves.path(), {.resume = true});
        const Checkpoint expected = load_checkpoint(whole.path() / "model.dither");
        const Checkpoint resumed = load_checkpoint(halves.path() / "model.dither");
        CHECK(resumed.averaged == expected.averaged);
        CHECK(resumed.totals.swa_loss == expected.totals.swa_loss);
        CHECK(rounds_of(halves.path()) == rounds_of(whole.path()));
    }

    TEST_CASE("an abandoned round adds nothing to the average, and takes the model that it gives up out of it") {
        Job job = small_job();
        job.train.swa_start = 2;
        job.federation.clients = 4;
        job.precision.policy = "uniform";
        const TemporaryFolder folder;
        run(job, folder.path(), {{failing(job, 3, 0, true)}});
        CHECK(rounds_of(folder.path())[2]["committed"] == false);
        CHECK(load_checkpoint(folder.path() / "model.dither").averaged_rounds == 2);  // of rounds 4 and 5
    }

    TEST_CASE("more clients than needed are asked, and those that come after the cohort are late") {
        Job job = small_job();
        job.federation.over_select = 1.5;
        const TemporaryFolder folder;
        const RunResult result = run(job, folder.path(), {{honest(job)}, {honest(job)}});
        CHECK_FALSE(result.interrupted);
        for (const json& round : rounds_of(folder.path())) {
            CHECK(round["participants"] == 4);
            CHECK(round["dropped"] == 2);
        }
    }
}
