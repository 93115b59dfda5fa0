// The production server, its journal and its registry against nodes that come and go, on a virtual clock.
#include "tests/unit/aggregator/fake_federation.hpp"
#include "tests/unit/aggregator/memory_storage.hpp"
#include "tests/unit/aggregator/scripted_hub.hpp"

#include "core/error.hpp"

#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace dither;
using namespace std::chrono_literals;
using test::MemoryStorage;
using test::ScriptedHub;

namespace {

/// Every client is asked in every round, and all are needed.
Job everybody() {
    Job job = test::small_job();
    job.job.rounds = 3;
    job.federation.clients = 4;
    job.federation.cohort = 4;
    job.federation.quorum = 0.75;
    job.federation.rejoin = 60s;
    return job;
}

struct Killed : std::runtime_error {
    Killed() : std::runtime_error("killed") {}
};

/// A federation whose nodes answer at once, unless the test says otherwise. The disk outlives the processes.
struct Daemons {
    explicit Daemons(Job the_job = everybody()) : job(std::move(the_job)), trainer(job) {
        hub.on_send = [this](PeerId peer, const Message& message) { hear(peer, message); };
    }

    PeerId join(std::uint32_t client) { return peers[client] = hub.join("node-" + std::to_string(client), client); }
    void join_all() {
        for (std::uint32_t client = 0; client < job.federation.clients; ++client)
            join(client);
    }

    void hear(PeerId peer, const Message& message) {
        if (const auto* task = std::get_if<RoundPlan>(&message)) {
            asked.push_back({task->round, task->client});
            if (!on_task || !on_task(peer, *task))
                hub.say(peer, trainer.train(*task));
        }
        if (const auto* ack = std::get_if<UpdateAck>(&message); ack != nullptr && on_ack)
            on_ack(peer, *ack);
    }

    RunResult run(bool resume = false) {
        MemoryStorage storage(disk);
        RunFolder folder(std::make_unique<MemoryStorage>(disk), resume);
        Journal journal(storage);
        Registry registry(storage, job.federation.clients);
        const Dataset test_set = test::made_up_test_set();
        const auto backend = make_backend({});
        const ServerSetup setup{.job = job,
                                .test = test_set,
                                .input = {Shape{1, 4}, 3, 10},
                                .backend = *backend,
                                .hub = hub,
                                .folder = folder,
                                .peers = wait_for,
                                .stop = nullptr,
                                .journal = keeps_journal ? &journal : nullptr,
                                .registry = &registry,
                                .log = [this](const std::string& line) { lines.push_back(line); },
                                .progress = {},
                                .now = [this] { return hub.now(); },
                                .place = {}};
        return run_server(setup, resume);
    }

    std::vector<nlohmann::json> rounds() {
        std::istringstream in(disk.files.at("rounds.jsonl").bytes);
        std::vector<nlohmann::json> all;
        for (std::string line; std::getline(in, line);)
            all.push_back(nlohmann::json::parse(line));
        return all;
    }
    std::size_t times_asked(std::uint32_t round, std::uint32_t client) const {
        return static_cast<std::size_t>(std::ranges::count(asked, std::pair(round, client)));
    }
    bool has_logged(std::string_view part) const {
        return std::ranges::any_of(lines, [&](const std::string& line) { return line.find(part) != line.npos; });
    }

    Job job;
    test::FakeTrainer trainer;
    ScriptedHub hub;
    MemoryStorage::State disk;
    bool keeps_journal = true;
    std::uint32_t wait_for = 4;
    std::map<std::uint32_t, PeerId> peers;
    std::function<bool(PeerId, const RoundPlan&)> on_task;  ///< true: the node has done something else
    std::function<void(PeerId, const UpdateAck&)> on_ack;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> asked;  ///< round and client of each plan
    std::vector<std::string> lines;
};

RunResult undisturbed(const Job& job = everybody()) {
    Daemons daemons(job);
    daemons.join_all();
    return daemons.run();
}

}  // namespace

TEST_SUITE("aggregator/returning_nodes") {
    TEST_CASE("with a journal and a registry, a run ends with the model that it has without") {
        Daemons plain;
        plain.keeps_journal = false;
        plain.join_all();
        const test::TemporaryFolder folder;
        std::vector<test::FakePeer> peers;
        for (std::uint32_t client = 0; client < 4; ++client)
            peers.push_back({test::honest(everybody()), client});
        const Sha256 expected = test::run(everybody(), folder.path(), peers).model;
        CHECK(undisturbed().model == expected);
        CHECK(plain.run().model == expected);
    }

    TEST_CASE("no update is acknowledged before it is durable, and many share a sync") {
        Daemons daemons;
        daemons.join_all();
        std::size_t accepted = 0;
        daemons.on_ack = [&](PeerId, const UpdateAck& ack) {
            CHECK(ack.accepted);
            const auto& journal = daemons.disk.files.at(Journal::kFile);
            CHECK(journal.synced == journal.bytes.size());
            ++accepted;
        };
        const std::size_t before = daemons.disk.syncs;
        daemons.run();
        CHECK(accepted == 12);
        CHECK(daemons.disk.syncs - before <= 3 + 3 + 4);  // the rounds' journals and lines; the nodes' clients
    }

    TEST_CASE("killed after any acknowledgement, it goes on to the same model and asks for nothing twice") {
        const RunResult expected = undisturbed();
        for (int kill = 1; kill <= 12; ++kill) {
            CAPTURE(kill);
            Daemons daemons;
            daemons.join_all();
            std::set<std::pair<std::uint32_t, std::uint32_t>> acknowledged;
            daemons.on_ack = [&, left = kill](PeerId, const UpdateAck& ack) mutable {
                acknowledged.insert({ack.round, ack.client});
                if (--left == 0)
                    throw Killed();
            };
            CHECK_THROWS_AS(daemons.run(), Killed);
            MemoryStorage::lose_unsynced(daemons.disk);
            daemons.asked.clear();
            daemons.on_ack = nullptr;
            daemons.join_all();
            CHECK(daemons.run(true).model == expected.model);
            for (const auto& [round, client] : acknowledged)
                CHECK(daemons.times_asked(round, client) == 0);
        }
    }

    TEST_CASE("killed before it acknowledges, it asks again and ends with the same model") {
        Daemons daemons;
        daemons.join_all();
        daemons.on_task = [&](PeerId, const RoundPlan& task) -> bool {
            if (task.round == 2 && task.client == 3)
                throw Killed();
            return false;
        };
        CHECK_THROWS_AS(daemons.run(), Killed);
        MemoryStorage::lose_unsynced(daemons.disk);
        daemons.on_task = nullptr;
        daemons.join_all();
        CHECK(daemons.run(true).model == undisturbed().model);
        CHECK(daemons.times_asked(2, 3) == 2);
    }

    TEST_CASE("a round whose updates are all in the journal needs no node") {
        Daemons daemons;
        daemons.job.job.rounds = 1;
        daemons.join_all();
        int left = 4;
        daemons.on_ack = [&](PeerId, const UpdateAck&) {
            if (--left == 0)
                throw Killed();
        };
        CHECK_THROWS_AS(daemons.run(), Killed);
        daemons.on_ack = nullptr;
        daemons.wait_for = 0;
        daemons.hub.on_idle = [&] { CHECK(daemons.disk.files.contains(RunFolder::kSummary)); };  // only for a farewell
        daemons.run(true);
        CHECK(daemons.rounds().back()["participants"] == 4);
        CHECK(daemons.rounds().back()["bytes_up"].get<int>() > 0);
        CHECK(daemons.has_logged("round 1: 4 updates were in the journal"));
    }

    TEST_CASE("a failed sync ends the run, and nobody was told that its update is kept") {
        Daemons daemons;
        daemons.join_all();
        daemons.on_task = [&](PeerId, const RoundPlan&) {
            daemons.disk.syncs_left = 0;
            return false;
        };
        daemons.on_ack = [](PeerId, const UpdateAck&) { FAIL("acknowledged"); };
        CHECK_THROWS_AS(daemons.run(), IoError);
    }

    TEST_CASE("a full disk refuses an update with a reason, and the round goes on without it") {
        Daemons daemons;
        daemons.join_all();
        daemons.on_task = [&](PeerId peer, const RoundPlan& task) {
            if (task.round != 2 || task.client != 0)
                return false;
            daemons.hub.say(peer, daemons.trainer.train(task));
            daemons.disk.appends_left = 1;  // half an entry
            return true;
        };
        std::vector<std::string> refusals;
        daemons.on_ack = [&](PeerId, const UpdateAck& ack) {
            if (!ack.accepted)
                refusals.push_back(ack.reason);
            daemons.disk.appends_left = 1000;
        };
        daemons.run();
        CHECK(refusals == std::vector<std::string>{"the aggregator's disk is full"});
        CHECK(daemons.rounds()[1]["participants"] == 3);
        CHECK(daemons.rounds()[1]["rejected"] == 1);
        CHECK(daemons.rounds()[2]["participants"] == 4);
    }

    TEST_CASE("a node that comes back within the time to rejoin costs nothing") {
        const RunResult expected = undisturbed();
        for (const auto away : {0s, 1s, 59s}) {
            Daemons daemons;
            daemons.join_all();
            int losses = 0;
            daemons.on_task = [&](PeerId peer, const RoundPlan& task) {
                if (task.client != 1 || losses == 5)  // more often than a task may lose peers that do not return
                    return false;
                ++losses;
                daemons.hub.hang_up(peer);
                daemons.hub.at(daemons.hub.now().time_since_epoch() + away, [&] { daemons.join(1); });
                return true;
            };
            CHECK(daemons.run().model == expected.model);
            CHECK(losses == 5);
            CHECK(daemons.rounds().front()["dropped"] == 0);
        }
    }

    TEST_CASE("a node that stays away is lost to the round, once the time to rejoin is over") {
        Daemons daemons;
        daemons.job.job.rounds = 1;
        daemons.join_all();
        daemons.on_task = [&](PeerId peer, const RoundPlan& task) {
            if (task.client == 1)
                daemons.hub.hang_up(peer);
            return task.client == 1;
        };
        daemons.run();
        CHECK(daemons.rounds().front()["participants"] == 3);
        CHECK(daemons.rounds().front()["dropped"] == 1);
        CHECK(daemons.rounds().front()["seconds"] == 60);
        CHECK(daemons.hub.now().time_since_epoch() == 120s);  // a minute more, in which it could have heard of the end
        CHECK(daemons.has_logged("node node-1 (client 1) is lost: the link is down"));
        CHECK(daemons.has_logged("round 1 gives up client 1, whose node is away"));
    }

    TEST_CASE("a round does not begin without its quorum, however long that is away") {
        Daemons daemons;
        daemons.wait_for = 1;
        daemons.join(0);
        daemons.hub.at(5h, [&] {
            for (const std::uint32_t client : {1U, 2U, 3U})
                daemons.join(client);
        });
        CHECK(daemons.run().model == undisturbed().model);
        CHECK(daemons.rounds().size() == 3);
    }

    TEST_CASE("a federation that stays away again and again costs rounds, but not the run") {
        Daemons daemons;
        daemons.job.job.rounds = 5;
        daemons.join_all();
        daemons.on_task = [&](PeerId, const RoundPlan& task) {
            if (task.round > 4)
                return false;
            for (const auto& [client, peer] : daemons.peers)
                daemons.hub.hang_up(peer);
            daemons.hub.at(daemons.hub.now().time_since_epoch() + 2h, [&] { daemons.join_all(); });
            return true;
        };
        daemons.run();
        const auto rounds = daemons.rounds();
        REQUIRE(rounds.size() == 5);
        for (std::size_t round = 0; round < 4; ++round)
            CHECK(rounds[round]["committed"] == false);
        CHECK(rounds[4]["participants"] == 4);
    }

    TEST_CASE("the same update again gets the same answer, from a later connection too; another one is refused") {
        Daemons daemons;
        daemons.join_all();
        std::vector<std::pair<PeerId, bool>> answers;
        std::optional<Update> first;
        std::optional<RoundPlan> last;  // what the round waits for until all was said
        PeerId later = 0;
        daemons.on_task = [&](PeerId peer, const RoundPlan& task) {
            if (task.round == 1 && task.client == 2) {
                first = daemons.trainer.train(task);
                Update other = *first;
                ++other.report.samples;
                for (const Update& update : {*first, *first, other})
                    daemons.hub.say(peer, update);
            }
            if (task.round == 1 && task.client == 3)
                last = task;
            return task.round == 1 && task.client >= 2;
        };
        daemons.on_ack = [&](PeerId peer, const UpdateAck& ack) {
            if (ack.round != 1 || ack.client != 2)
                return;
            answers.emplace_back(peer, ack.accepted);
            if (answers.size() == 3) {
                daemons.hub.hang_up(peer);
                later = daemons.join(2);
                daemons.hub.say(later, *first);
            } else if (answers.size() == 4) {
                daemons.hub.say(daemons.peers[3], daemons.trainer.train(*last));
            }
        };
        CHECK(daemons.run().model == undisturbed().model);
        CHECK(daemons.times_asked(1, 2) == 1);
        const PeerId former = 3;
        CHECK(answers ==
              std::vector<std::pair<PeerId, bool>>{{former, false}, {former, true}, {former, true}, {later, true}});
        CHECK(daemons.rounds().front()["participants"] == 4);
        CHECK(daemons.rounds().front()["rejected"] == 1);
        const auto* committed = daemons.hub.last_to<RoundCommitted>(later);
        REQUIRE(committed != nullptr);
        CHECK(committed->client == 2);
    }

    TEST_CASE("a node that connects again supersedes its connection that still seems alive") {
        Daemons daemons;
        daemons.join_all();
        bool again = false;
        PeerId old = 0;
        daemons.on_task = [&](PeerId peer, const RoundPlan& task) {
            if (task.client != 1 || again)
                return false;
            again = true;
            old = peer;
            daemons.join(1);
            return true;
        };
        CHECK(daemons.run().model == undisturbed().model);
        CHECK_FALSE(daemons.hub.is_open(old));
        CHECK(daemons.hub.last_to<Stop>(old)->reason == "this node has connected again");
    }

    TEST_CASE("a node that leaves its client to the aggregator is told which one it is") {
        Daemons daemons;
        std::vector<PeerId> joined;
        for (const char* node : {"d", "c", "b", "a"})
            joined.push_back(daemons.hub.join(node));
        CHECK(daemons.run().model == undisturbed().model);
        for (std::uint32_t client = 0; client < 4; ++client)
            CHECK(daemons.hub.last_to<Welcome>(joined[client])->client == client);
        CHECK(daemons.disk.files.at("nodes.tsv").bytes == "0\td\n1\tc\n2\tb\n3\ta\n");
    }

    TEST_CASE("a peer that cannot be in is told why, and logged once") {
        Daemons daemons;
        daemons.join_all();
        const PeerId worker = daemons.hub.join("worker", kAnyClient);
        const PeerId thief = daemons.hub.join("thief", 2);
        const PeerId liar = daemons.hub.join("node-3", 3, "node-4");
        daemons.run();
        CHECK(daemons.hub.last_to<Stop>(worker)->reason == "speaks for any client: expected one, whose data it owns");
        CHECK(daemons.hub.last_to<Stop>(thief)->reason == "client 2 is another node's");
        CHECK(daemons.hub.last_to<Stop>(liar)->reason == "calls itself node-3, but has proved to be node-4");
        CHECK(std::ranges::count_if(daemons.lines,
                                    [](const std::string& line) { return line.find("is refused") != line.npos; }) == 3);
    }

    TEST_CASE("nodes are told to stop only when the run is complete: they come back to one that was interrupted") {
        Daemons daemons;
        daemons.join_all();
        daemons.on_ack = [](PeerId, const UpdateAck&) { throw Killed(); };
        CHECK_THROWS_AS(daemons.run(), Killed);
        const auto is_stop = [](const ScriptedHub::Sent& sent) { return std::holds_alternative<Stop>(sent.message); };
        CHECK(std::ranges::none_of(daemons.hub.sent(), is_stop));
        daemons.on_ack = nullptr;
        daemons.join_all();
        daemons.run(true);
        CHECK(std::ranges::count_if(daemons.hub.sent(), is_stop) == 4);
    }
}
