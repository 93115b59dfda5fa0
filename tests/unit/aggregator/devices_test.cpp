// Rounds whose nodes cannot all execute the same.
#include "aggregator/server.hpp"
#include "core/precision/device.hpp"
#include "core/precision/ledger.hpp"
#include "tests/unit/aggregator/fake_federation.hpp"

#include <doctest/doctest.h>

#include <map>
#include <mutex>
#include <set>

using namespace dither;
using namespace dither::test;
using nlohmann::json;

namespace {

/// A node that says what it can execute, and answers after a while of its own.
struct UnequalPeer {
    Device device;
    std::uint32_t client = kAnyClient;
    std::chrono::milliseconds delay{0};
    std::size_t leaves_after = 1000;  ///< tasks
};

/// By client, of each round: what it was sent.
using SentPlans = std::map<std::uint32_t, std::map<std::uint32_t, PrecisionPlan>>;

struct Outcome {
    RunResult result;
    std::vector<json> rounds;
    SentPlans sent;
};

/// `wanted`: the peers that the server waits for; 0: all.
Outcome run_unequal(const Job& job, const std::vector<UnequalPeer>& peers, std::uint32_t wanted = 0) {
    const TemporaryFolder path;
    const Dataset test = made_up_test_set();
    const auto backend = make_backend({});
    RunFolder folder(path.path(), false);
    LoopbackHub hub;
    Outcome outcome;
    std::mutex mutex;
    const auto serve_unequal = [&](Channel& channel, const UnequalPeer& peer) {
        FakeTrainer trainer(job);
        channel.send(Hello{.node = "fake", .client = peer.client, .device = peer.device});
        std::size_t tasks = 0;
        while (const auto message = channel.receive()) {
            const auto* task = std::get_if<RoundPlan>(&*message);
            if (task == nullptr)
                continue;
            if (tasks++ == peer.leaves_after)
                return;
            std::this_thread::sleep_for(peer.delay);
            {
                const std::lock_guard lock(mutex);
                outcome.sent[task->client][task->round] = task->plan;
            }
            channel.send(trainer.train(*task));
        }
    };
    {
        std::vector<std::jthread> threads;
        for (const UnequalPeer& peer : peers)
            threads.emplace_back([channel = hub.connect(), &peer, &serve_unequal] { serve_unequal(*channel, peer); });
        const ServerSetup setup{.job = job,
                                .test = test,
                                .input = {Shape{1, 4}, 3, 10},
                                .backend = *backend,
                                .hub = hub,
                                .folder = folder,
                                .peers = wanted > 0 ? wanted : static_cast<std::uint32_t>(peers.size()),
                                .progress = {},
                                .place = {}};
        outcome.result = run_server(setup, false);
    }
    outcome.rounds = rounds_of(path.path());
    return outcome;
}

Job four_bit_job(std::uint32_t clients) {
    Job job = small_job();
    job.federation.clients = clients;
    job.precision.policy = "uniform";
    job.precision.bits = 4;
    return job;
}

Schema schema_of_job(const Job& job) {
    const auto backend = make_backend({});
    return make_model(job.model, job.quantize, {Shape{1, 4}, 3, 10}, *backend)->schema();
}

bool can_execute(const Device& device, const PrecisionPlan& plan) {
    const std::set<int> widths(device.widths.begin(), device.widths.end());
    return widths.empty() || std::ranges::all_of(plan.layers, [&](const LayerBits& bits) {
               return widths.contains(bits.forward) && widths.contains(bits.backward) &&
                      widths.contains(bits.optimizer);
           });
}

const std::vector<Device> kFourDevices{{}, {.widths = {8, 32}}, {.widths = {2, 6}}, {.widths = {32}}};

std::vector<UnequalPeer> speaking_for_each(std::uint32_t clients, const Device& device) {
    std::vector<UnequalPeer> peers;
    for (std::uint32_t client = 0; client < clients; ++client)
        peers.push_back({.device = device, .client = client});
    return peers;
}

/// A node for each of four clients, the first of them the slowest, or the last.
std::vector<UnequalPeer> four_peers(bool first_is_slow) {
    std::vector<UnequalPeer> peers;
    for (std::uint32_t client = 0; client < 4; ++client)
        peers.push_back({.device = kFourDevices[client],
                         .client = client,
                         .delay = std::chrono::milliseconds(4 * (first_is_slow ? 3 - client : client))});
    return peers;
}

}  // namespace

TEST_SUITE("aggregator/devices") {
    TEST_CASE("a round whose nodes run different plans commits, and its sum does not depend on who is first") {
        const Job job = four_bit_job(4);
        const Outcome one = run_unequal(job, four_peers(true));
        const Outcome other = run_unequal(job, four_peers(false));
        CHECK(one.result.model == other.result.model);
        CHECK(one.rounds == other.rounds);
        REQUIRE(one.rounds.size() == 5);
        for (const json& round : one.rounds) {
            CHECK(round["committed"] == true);
            CHECK(round["participants"] == 4);
            CHECK(round["plans"] == 4);
        }
        for (std::uint32_t client = 0; client < 4; ++client)
            for (const auto& [round, plan] : one.sent.at(client)) {
                CAPTURE(client);
                CHECK(can_execute(kFourDevices[client], plan));
            }
        CHECK(one.sent.at(0).at(1).layers[0].forward == 4);
        CHECK(one.sent.at(1).at(1).layers[0].forward == 8);
        CHECK(one.sent.at(2).at(1).layers[0].forward == 6);
        CHECK(one.sent.at(3).at(1).layers[0].forward == 32);
    }

    TEST_CASE("the grid of the updates is the round's, whatever a node runs: the average is that of equal nodes") {
        const Job job = four_bit_job(4);  // its fake nodes answer the same under every plan
        const Outcome equal = run_unequal(job, {UnequalPeer{}});
        const Outcome unequal = run_unequal(job, four_peers(true));
        CHECK(unequal.result.model == equal.result.model);
        CHECK(equal.rounds[0]["plans"] == 1);
    }

    TEST_CASE("what was sent is what is counted") {
        const Job job = four_bit_job(4);
        const Schema schema = schema_of_job(job);
        const Outcome outcome = run_unequal(job, four_peers(true));
        BitOps expected;
        for (std::uint32_t client = 0; client < 4; ++client)
            expected += count_bit_ops(schema, outcome.sent.at(client).at(1), 10 + client, 1);
        CHECK(outcome.rounds[0]["bit_ops"] == expected.training);
        CHECK(outcome.rounds[0]["bit_ops_optimizer"] == expected.optimizer);
        CHECK(outcome.rounds[0]["bit_ops_fp32"] == expected.training_fp32);
        CHECK(outcome.rounds[0]["mean_bits"] ==
              doctest::Approx(32 * expected.training / expected.training_fp32).epsilon(1e-12));
        double of_layers = 0;
        for (const json& layer : outcome.rounds[0]["layers"])
            of_layers += layer["bit_ops"]["forward"].get<double>() + layer["bit_ops"]["backward"].get<double>();
        CHECK(of_layers == expected.training);
        CHECK(outcome.rounds[0]["layers"][0]["bits"]["forward"] == 4);  // the round's own plan
    }

    TEST_CASE("in a simulation a client's device is the job's, whoever hosts it") {
        Job job = four_bit_job(12);
        job.federation.devices = {{.share = 0.4, .widths = {8, 16}, .memory = 0},
                                  {.share = 0.3, .widths = {5, 32}, .memory = 0}};
        const Outcome alone = run_unequal(job, {UnequalPeer{}});
        const Outcome three = run_unequal(
            job, {{.delay = std::chrono::milliseconds(3)}, {.delay = std::chrono::milliseconds(1)}, {.device = {}}});
        CHECK(three.result.model == alone.result.model);
        CHECK(three.rounds == alone.rounds);
        CHECK(three.sent == alone.sent);
        std::set<int> forward;
        for (const auto& [client, plans] : alone.sent)
            for (const auto& [round, plan] : plans) {
                const Device device = device_of(job.federation.devices, job.job.seed, client);
                CHECK(plan == fit(plan, device, schema_of_job(job), job.train.batch_size));
                CHECK(can_execute(device, plan));
                forward.insert(plan.layers[0].forward);
            }
        CHECK(forward == std::set{4, 5, 8});
    }

    TEST_CASE("a node runs what both the job and itself allow") {
        Job job = four_bit_job(4);
        job.federation.devices = {{.share = 1, .widths = {8, 16, 32}, .memory = 0}};
        const Outcome outcome = run_unequal(job, speaking_for_each(4, {.widths = {4, 16, 32}}));
        for (const auto& [client, plans] : outcome.sent)
            CHECK(plans.at(1).layers[0].forward == 16);
    }

    TEST_CASE("a node short of memory keeps its inputs in bytes, and the run goes on") {
        Job job = four_bit_job(4);
        job.precision.bits = 16;
        job.precision.levels = {16, 32};
        const Outcome outcome = run_unequal(job, speaking_for_each(4, {.memory = 1}));
        CHECK(outcome.sent.at(0).at(1).layers[0].backward == 8);
        CHECK(outcome.sent.at(0).at(1).layers[0].forward == 16);
        CHECK(outcome.rounds.size() == 5);
    }

    TEST_CASE("a node that cannot execute the bits that the job fixes is sent away, and the run goes on without it") {
        Job job = four_bit_job(4);
        job.quantize.gradients.bits = 4;
        const Outcome calm = run_unequal(job, {UnequalPeer{}});
        const Outcome outcome = run_unequal(job, {{.device = {.widths = {8, 32}}, .client = 2}, UnequalPeer{}}, 1);
        CHECK(outcome.result.model == calm.result.model);
        for (const json& round : outcome.rounds)
            CHECK(round["plans"] == 1);
    }

    TEST_CASE("a node with limits that speaks for any client is sent away: who hosts a client must not show") {
        const Job job = four_bit_job(4);
        const Outcome calm = run_unequal(job, {UnequalPeer{}});
        for (const Device& limited : {Device{.widths = {32}}, Device{.memory = 1}}) {
            const Outcome outcome = run_unequal(job, {{.device = limited}, UnequalPeer{}}, 1);
            CHECK(outcome.result.model == calm.result.model);
            CHECK(outcome.sent == calm.sent);
        }
    }

    TEST_CASE("a task that moves to another node is fitted and counted anew") {
        const Job job = four_bit_job(4);
        const Outcome calm = run_unequal(job, {UnequalPeer{}});
        const Outcome stormy =
            run_unequal(job, {{.device = {.widths = {32}}, .client = 1, .leaves_after = 0}, UnequalPeer{}});
        CHECK(stormy.result.model == calm.result.model);
        CHECK(stormy.rounds[0]["plans"] == 1);
        CHECK(stormy.rounds[0]["bit_ops"] == calm.rounds[0]["bit_ops"]);
    }
}
