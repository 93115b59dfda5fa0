// The production server with simulated devices: synchronous rounds whose participants simulated time decides, and
// asynchronous ones.
#include "aggregator/schedule.hpp"
#include "tests/unit/aggregator/fake_federation.hpp"

#include <set>
#include <thread>

#include <doctest/doctest.h>

using namespace dither;
using namespace dither::test;
using nlohmann::json;

namespace {

RunOptions simulated(RunOptions options = {}) {
    options.samples_of = FakeTrainer::samples;
    return options;
}

Job timed_job() {
    Job job = small_job();
    job.job.rounds = 6;
    job.federation.clients = 30;
    job.federation.devices = {{.share = 0.9, .speed = 10, .spread = 1.5, .uplink = 1, .downlink = 2, .dropout = 0.1}};
    return job;
}

Job synchronous_job() {
    Job job = timed_job();
    job.federation.over_select = 2;
    return job;
}

Job asynchronous_job() {
    Job job = timed_job();
    job.federation.async = {.concurrency = 10, .staleness = 8};
    return job;
}

/// Honest in the end, after a while that depends on the client and on `factor`.
Behaviour slow(const Job& job, unsigned factor) {
    return [=, inner = honest(job)](std::size_t nth, const RoundPlan& task) {
        std::this_thread::sleep_for(std::chrono::milliseconds(task.client * factor % 5));
        return inner(nth, task);
    };
}

/// Without what workers measure in real time.
std::vector<json> timeless_rounds_of(const TemporaryFolder& folder) {
    std::vector<json> rounds = rounds_of(folder.path());
    for (json& round : rounds)
        for (const char* key : {"train_seconds", "probe_seconds"})
            round.erase(key);
    return rounds;
}

json summary_of(const TemporaryFolder& folder) {
    return json::parse(read_text(folder.path() / "summary.json"));
}

void check_that_workers_do_not_show(const Job& job) {
    const TemporaryFolder one;
    const RunResult alone = run_honestly(job, one.path(), simulated());
    for (const std::vector<unsigned>& factors : {std::vector{3U, 0U}, std::vector{0U, 7U, 2U}}) {
        const TemporaryFolder folder;
        std::vector<FakePeer> peers;
        for (const unsigned factor : factors)
            peers.push_back({slow(job, factor)});
        CHECK(run(job, folder.path(), peers, simulated()).model == alone.model);
        CHECK(timeless_rounds_of(folder) == timeless_rounds_of(one));
        CHECK(summary_of(folder)["device_bytes"] == summary_of(one)["device_bytes"]);
    }
}

}  // namespace

TEST_SUITE("aggregator/simulated_time") {
    TEST_CASE("who is first in simulated time makes the round, whatever the workers' own time") {
        check_that_workers_do_not_show(synchronous_job());
    }

    TEST_CASE("asynchronous rounds are the same for any number of workers, in whatever order they answer") {
        check_that_workers_do_not_show(asynchronous_job());
    }

    TEST_CASE(
        "those that come too late or drop out are not trained, but count as dropped, and their downlink as bytes") {
        const Job job = synchronous_job();
        const TemporaryFolder folder;
        std::atomic<std::uint32_t> trained = 0;
        const Behaviour counting = [&, inner = honest(job)](std::size_t nth, const RoundPlan& task) {
            ++trained;
            return inner(nth, task);
        };
        const RunResult result = run(job, folder.path(), {{counting}}, simulated());
        const auto rounds = rounds_of(folder.path());
        CHECK(trained == 6 * 4);
        CHECK(total_of(rounds, "participants") == 6 * 4);
        CHECK(total_of(rounds, "dropped") == 6 * 4);
        CHECK(result.totals.coordinates_down == 2 * result.totals.coordinates_up);
        double seconds = 0;
        for (const json& round : rounds) {
            CHECK(round["simulated_seconds"] > 0);
            seconds += round["simulated_seconds"].get<double>();
        }
        const json summary = summary_of(folder);
        CHECK(summary["simulated_seconds"].get<double>() == doctest::Approx(seconds));
        CHECK(summary["device_bytes"]["p10"] > 0);
        CHECK(summary["device_bytes"]["max"] > summary["device_bytes"]["p10"]);
    }

    TEST_CASE("a deadline in simulated time abandons a round that misses its quorum, without a moment's wait") {
        Job job = timed_job();
        job.federation.devices[0].share = 1;
        job.federation.deadline = std::chrono::milliseconds(1);
        const TemporaryFolder folder;
        CHECK_THROWS_AS(run_honestly(job, folder.path(), simulated()), TrainingError);
        const auto rounds = rounds_of(folder.path());
        CHECK(rounds.size() == 3);
        CHECK(rounds[0]["dropped"] == 4);
        CHECK(rounds[0]["simulated_seconds"] == 0.001);
        CHECK(rounds[0]["reason"].get<std::string>().find("of the 2 needed") != std::string::npos);
    }

    TEST_CASE("a resumed synchronous run has the model, the time and the bytes of one that was never stopped") {
        const Job job = synchronous_job();
        const TemporaryFolder whole;
        const TemporaryFolder broken;
        const RunResult expected = run_honestly(job, whole.path(), simulated());
        run_honestly(job, broken.path(), simulated({.stop_after = 3}));
        CHECK(run_honestly(job, broken.path(), simulated({.resume = true})).model == expected.model);
        CHECK(timeless_rounds_of(broken) == timeless_rounds_of(whole));
        CHECK(summary_of(broken)["device_bytes"] == summary_of(whole)["device_bytes"]);
        CHECK(summary_of(broken)["simulated_seconds"] == summary_of(whole)["simulated_seconds"]);
    }

    TEST_CASE("a resumed asynchronous run goes on from its model and time") {
        const Job job = asynchronous_job();
        const TemporaryFolder unbroken;
        run_honestly(job, unbroken.path(), simulated());
        const TemporaryFolder folder;
        run_honestly(job, folder.path(), simulated({.stop_after = 3}));
        run_honestly(job, folder.path(), simulated({.resume = true}));
        const auto rounds = timeless_rounds_of(folder);
        REQUIRE(rounds.size() == 6);
        double time = 0;
        for (std::size_t i = 0; i < rounds.size(); ++i) {
            CHECK(rounds[i]["participants"] == 4);
            CHECK((rounds[i] == timeless_rounds_of(unbroken)[i]) == (i < 3));
            time += rounds[i]["simulated_seconds"].get<double>();
        }
        CHECK(summary_of(folder)["simulated_seconds"].get<double>() == doctest::Approx(time));
    }

    TEST_CASE("devices without a time of their own change nothing") {
        Job job = small_job();
        const TemporaryFolder plain;
        const TemporaryFolder described;
        const RunResult expected = run_honestly(job, plain.path());
        job.federation.devices = {{.share = 0.5, .speed = 0, .spread = 1}};
        CHECK(run_honestly(job, described.path(), simulated()).model == expected.model);
        CHECK(rounds_of(described.path())[0]["simulated_seconds"] == 0);
        CHECK_FALSE(summary_of(described).contains("device_bytes"));
    }

    // x(r + 1) = x(r) + sum over k of w_k (1 + r - b_k)^(-1/2) u_k(x(b_k)) / sum of w_k, with FakeTrainer's u_k(x) =
    // (p_k - x) / 5 and w_k = its samples; the order of events is the schedule's.
    TEST_CASE("asynchronous rounds are FedBuff's, computed in double, to 1e-6") {
        Job job = asynchronous_job();
        job.codec.uplink.kind = "raw";
        job.codec.downlink.kind = "raw";
        job.codec.downlink_of = "model";
        job.precision.policy = "fp32";
        job.federation.aggregation.clip = 0;
        job.federation.devices = {{.share = 1, .speed = 10, .spread = 1.5, .dropout = 0.1}};
        const TemporaryFolder folder;
        run_honestly(job, folder.path(), simulated());
        const Checkpoint checkpoint = load_checkpoint(folder.path() / "model.dither");
        const std::size_t parameters = checkpoint.model.size();

        const auto backend = make_backend({});
        const auto model = make_model(job.model, job.quantize, {Shape{1, 4}, 3, 10}, *backend);
        model->initialize(job.job.seed);
        const std::span<const float> initial = std::as_const(*model).parameters();
        std::vector<std::vector<double>> models{{initial.begin(), initial.end()}};  // of the rounds from 1
        std::map<std::uint32_t, std::uint32_t> base;                                // of clients in flight
        const auto schedule = make_schedule(job, FakeTrainer::samples);
        SimulatedTime now{0};
        std::set<std::uint32_t> staleness;
        for (std::uint32_t round = 1; round <= job.job.rounds; ++round) {
            const Attendance attendance = schedule->attend(round, now, [](std::uint32_t) { return LinkLoad{}; });
            now = attendance.ends;
            for (const std::uint32_t client : attendance.asked)
                base[client] = round;
            std::vector<double> sum(parameters);
            double weights = 0;
            for (const std::uint32_t client : attendance.awaited) {
                if (std::ranges::find(attendance.lost, client, &Absence::client) != attendance.lost.end())
                    continue;
                const std::vector<double>& from = models[base.at(client) - 1];
                std::vector<float> point(parameters);
                Stream(StreamKey{.purpose = Purpose::test, .client = client}).fill_normal(point);
                const auto weight = static_cast<double>(FakeTrainer::samples(client));
                const std::uint32_t age = round - base.at(client);
                for (std::size_t j = 0; j < parameters; ++j)
                    sum[j] += weight / std::sqrt(1.0 + age) * (point[j] - from[j]) / 5;
                weights += weight;
                staleness.insert(age);
            }
            models.push_back(models.back());
            for (std::size_t j = 0; j < parameters; ++j)
                models.back()[j] += sum[j] / weights;
        }
        CHECK(staleness.size() >= 3);
        for (std::size_t j = 0; j < parameters; ++j)
            CHECK(static_cast<double>(checkpoint.model[j]) == doctest::Approx(models.back()[j]).epsilon(1e-6).scale(1));
    }

    TEST_CASE("a client that fails early is lost to the round that awaits it, and the run goes on") {
        const Job job = asynchronous_job();
        const auto schedule = make_schedule(job, FakeTrainer::samples);
        const Behaviour fails_early = [inner = honest(job)](std::size_t nth, const RoundPlan& task) -> Answers {
            if (task.round == 1)
                return std::vector<Message>{Failed{.round = 1, .client = task.client, .reason = "no data"}};
            return inner(nth, task);
        };
        const TemporaryFolder folder;
        run(job, folder.path(), {{fails_early}}, simulated());
        const auto rounds = rounds_of(folder.path());
        CHECK(rounds.size() == 6);
        CHECK_FALSE(rounds[0]["committed"].get<bool>());
        CHECK(rounds.back()["committed"].get<bool>());
        CHECK(total_of(rounds, "dropped") >= 10);
    }

    TEST_CASE("an early update that is refused is lost to the round that awaits it") {
        const Job job = asynchronous_job();
        const Behaviour cheats_early = [trainer = std::make_shared<FakeTrainer>(job)](
                                           std::size_t, const RoundPlan& task) -> Answers {
            Update update = trainer->train(task);
            if (task.round == 1 && task.client % 2 == 0)
                update.report.samples = 0;
            return std::vector<Message>{update};
        };
        const TemporaryFolder folder;
        run(job, folder.path(), {{cheats_early}}, simulated());
        const auto rounds = rounds_of(folder.path());
        CHECK(rounds[0]["rejected"] > 0);
        CHECK(total_of(rounds, "participants") > 15);
    }

    TEST_CASE("a round that diverges takes what is in flight with it, the first one, too") {
        Job job = asynchronous_job();
        job.precision.policy = "uniform";
        for (const std::uint32_t bad : {1U, 3U}) {
            CAPTURE(bad);
            const Behaviour explodes = [bad, inner = honest(job)](std::size_t nth, const RoundPlan& task) -> Answers {
                if (task.round == bad)
                    return std::vector<Message>{
                        Failed{.round = bad, .client = task.client, .diverged = true, .reason = "NaN"}};
                return inner(nth, task);
            };
            const TemporaryFolder folder;
            run(job, folder.path(), {{explodes}}, simulated());
            const auto rounds = rounds_of(folder.path());
            REQUIRE(rounds.size() == 6);
            const auto broken =
                std::ranges::find_if(rounds, [](const json& round) { return round["committed"] == false; });
            REQUIRE(broken < rounds.end() - 1);
            CHECK(broken - rounds.begin() >= bad - 1);
            CHECK(std::all_of(broken + 1, rounds.end(), [](const json& round) { return round["committed"] == true; }));
        }
    }
}
