#include "node/session.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <future>
#include <thread>

#include "core/config.hpp"
#include "core/error.hpp"
#include "node/trainer.hpp"
#include "tests/unit/made_up_data.hpp"
#include "tests/unit/temporary_folder.hpp"
#include "transport/codec.hpp"
#include "transport/held_model.hpp"
#include "transport/loopback.hpp"

using namespace dither;
using namespace std::chrono_literals;
using test::TemporaryFolder;

namespace {

/// An aggregator's side that a test plays by hand against a real session in its own thread.
struct Stage {
    Dataset data = two_blobs(60);
    Job job = made_job();
    LoopbackHub hub;
    std::unique_ptr<Channel> channel = hub.connect();
    std::uint32_t client = kAnyClient;
    std::thread node{[this] { run_session(*channel, {.node = "worker-1", .client = client, .data = &data}); }};

    Stage() = default;
    explicit Stage(std::uint32_t speaks_for) : client(speaks_for) {}

    static Job made_job() {
        Job job;
        job.model.name = "linear";
        job.federation.clients = 3;
        job.federation.cohort = 1;
        job.codec.uplink.kind = job.codec.downlink.kind = "raw";
        return job;
    }

    ~Stage() {
        hub.send(peer, Stop{"the test is over"});
        node.join();
    }

    template <typename Expected>
    Expected next() {
        for (int tries = 0; tries < 300; ++tries) {
            const auto event = hub.next_event(Clock::now() + 100ms);
            if (!event)
                continue;
            if (const auto* joined = std::get_if<PeerJoined>(&*event))
                peer = joined->peer;
            if (const auto* received = std::get_if<Received>(&*event)) {
                REQUIRE(std::holds_alternative<Expected>(received->message));
                return std::get<Expected>(received->message);
            }
        }
        throw std::runtime_error("the session did not answer within 30 s");
    }

    RoundPlan plan_for(std::uint32_t client) const {
        const std::vector<float> model(10, 0.25F);  // 4 x 2 weights and 2 biases
        RoundPlan plan{.round = 1, .client = client, .plan = PrecisionPlan::uniform(1, 32)};
        plan.uplink_steps = {1.0F};
        plan.broadcast = sha256(model);
        const auto bytes = std::as_bytes(std::span(model));
        plan.parts = {{.round = 1, .payload = std::vector(bytes.begin(), bytes.end())}};
        return plan;
    }

    /// For client 2, whose update of round `counted` was counted last.
    RoundPlan plan_of(std::uint32_t round, std::uint32_t counted) const {
        RoundPlan plan = plan_for(2);
        plan.round = plan.parts[0].round = round;
        plan.counted = counted;
        return plan;
    }

    /// What a session that has just begun answers.
    Update update_of(const RoundPlan& plan) {
        next<Hello>();
        hub.send(peer, Welcome{to_toml(job)});
        hub.send(peer, plan);
        return next<Update>();
    }
    std::vector<std::byte> payload_of(const RoundPlan& plan) { return update_of(plan).payload; }

    PeerId peer = 0;
};

}  // namespace

TEST_SUITE("node/session") {
    TEST_CASE("a session says hello, trains the client it is asked to and sends its update") {
        Stage stage;
        CHECK(stage.next<Hello>() == Hello{.node = "worker-1", .client = kAnyClient});
        stage.hub.send(stage.peer, Welcome{to_toml(stage.job)});
        const RoundPlan plan = stage.plan_for(2);
        stage.hub.send(stage.peer, plan);
        const auto update = stage.next<Update>();
        CHECK(update.round == 1);
        CHECK(update.client == 2);
        CHECK(update.base == plan.broadcast);
        CHECK(update.report.samples == 20);
        CHECK(update.payload.size() == plan.parts[0].payload.size());
    }

    TEST_CASE("a session holds back the job's share of a dealt client's samples, and of all where it speaks for one") {
        for (const std::uint32_t speaks_for : {kAnyClient, 2U}) {
            Stage stage(speaks_for);
            stage.job.federation.holdout = 0.25;
            stage.next<Hello>();
            stage.hub.send(stage.peer, Welcome{to_toml(stage.job), speaks_for});
            RoundPlan plan = stage.plan_for(2);
            stage.hub.send(stage.peer, plan);
            const std::uint64_t own = speaks_for == kAnyClient ? 20 : 60;
            const auto unasked = stage.next<Update>();
            CHECK(unasked.report.samples == own - own / 4);
            CHECK(unasked.report.held_out == HeldOutScore{});
            plan.probe = Probe::held_out;
            stage.hub.send(stage.peer, plan);
            const auto update = stage.next<Update>();
            CHECK(update.payload == unasked.payload);
            CHECK(update.report.held_out.samples == own / 4);
            CHECK(update.report.held_out.personal_loss < update.report.held_out.loss);
        }
    }

    TEST_CASE("a session says what its node executes, and returns it with the speed of its training") {
        const Dataset data = two_blobs(60);
        const Device device{.widths = {4, 8, 32}, .memory = 1 << 20, .speed = 0};
        LoopbackHub hub;
        auto channel = hub.connect();
        auto session = std::async(std::launch::async, [&] {
            return run_session(*channel, {.node = "edge", .client = 0, .data = &data, .device = device});
        });
        Job job = Stage::made_job();
        job.federation.clients = 1;
        job.train.epochs = 200;  // long enough for a clock to tell
        bool done = false;
        while (!done) {
            const auto event = hub.next_event(Clock::now() + 100ms);
            const auto* received = event ? std::get_if<Received>(&*event) : nullptr;
            if (received == nullptr)
                continue;
            if (const auto* hello = std::get_if<Hello>(&received->message)) {
                CHECK(*hello == Hello{.node = "edge", .client = 0, .device = device});
                const std::vector<float> model(10, 0.25F);
                RoundPlan plan{.round = 1, .client = 0, .plan = PrecisionPlan::uniform(1, 32)};
                plan.uplink_steps = {1.0F};
                plan.broadcast = sha256(model);
                const auto bytes = std::as_bytes(std::span(model));
                plan.parts = {{.round = 1, .payload = std::vector(bytes.begin(), bytes.end())}};
                hub.send(received->peer, Welcome{to_toml(job), 0});
                hub.send(received->peer, plan);
            } else {
                CHECK(std::holds_alternative<Update>(received->message));
                hub.send(received->peer, Stop{"done"});
                done = true;
            }
        }
        const Device after = session.get();
        CHECK(after.widths == device.widths);
        CHECK(after.memory == device.memory);
        CHECK(after.speed > 0);
    }

    TEST_CASE("a model that does not decode to its promised hash fails the task, and the session goes on") {
        Stage stage;
        stage.next<Hello>();
        stage.hub.send(stage.peer, Welcome{to_toml(stage.job)});
        RoundPlan wrong = stage.plan_for(0);
        wrong.broadcast[5] ^= 1;
        stage.hub.send(stage.peer, wrong);
        const auto failed = stage.next<Failed>();
        CHECK_FALSE(failed.diverged);
        CHECK(failed.reason.find("decodes to") != std::string::npos);
        stage.hub.send(stage.peer, stage.plan_for(0));
        CHECK(stage.next<Update>().client == 0);
    }

    TEST_CASE(
        "a session begins at the job's initial model, follows its changes, and asks for a whole one where it cannot") {
        Stage stage;
        stage.next<Hello>();
        stage.hub.send(stage.peer, Welcome{to_toml(stage.job)});
        const auto backend = make_backend({});
        const auto model = make_model(stage.job.model, stage.job.quantize, {Shape{1, 4}, 2, 1}, *backend);
        model->initialize(stage.job.job.seed);
        RoundPlan first = stage.plan_for(0);
        first.base = 1;
        first.parts.clear();
        first.broadcast = sha256(std::as_const(*model).parameters());
        stage.hub.send(stage.peer, first);
        CHECK(stage.next<Update>().base == first.broadcast);
        RoundPlan later = stage.plan_for(1);
        later.round = 4;
        later.base = 3;
        later.parts[0].round = 4;
        stage.hub.send(stage.peer, later);
        const auto failed = stage.next<Failed>();
        CHECK(failed.needs_model);
        CHECK_FALSE(failed.diverged);
        CHECK(failed.reason == "round 4: the plan builds on the model of round 3, this node holds 1");
        later.base = 0;
        stage.hub.send(stage.peer, later);
        CHECK(stage.next<Update>().round == 4);
    }

    TEST_CASE("a client that does not exist fails its task by name") {
        Stage stage;
        stage.next<Hello>();
        stage.hub.send(stage.peer, Welcome{to_toml(stage.job)});
        stage.hub.send(stage.peer, stage.plan_for(3));
        CHECK(stage.next<Failed>().reason == "client 3 of 3");
    }

    TEST_CASE("whatever fails in a task is one client's failure, and the session goes on") {
        Stage stage;
        stage.next<Hello>();
        stage.job.codec.uplink.kind = "grid";
        stage.hub.send(stage.peer, Welcome{to_toml(stage.job)});
        RoundPlan no_grid = stage.plan_for(0);
        no_grid.uplink_steps = {1e-12F};  // far too fine: the update lies 2^31 steps from 0
        stage.hub.send(stage.peer, no_grid);
        CHECK(stage.next<Failed>().client == 0);
        RoundPlan bare = stage.plan_for(1);
        bare.plan.layers.clear();
        bare.uplink_steps.clear();
        stage.hub.send(stage.peer, bare);
        CHECK_FALSE(stage.next<Failed>().diverged);
        stage.hub.send(stage.peer, stage.plan_for(2));
        CHECK(stage.next<Update>().client == 2);
    }

    TEST_CASE("a session that speaks for one client refuses a plan for another") {
        Stage stage(1);
        CHECK(stage.next<Hello>().client == 1);
        stage.hub.send(stage.peer, Welcome{to_toml(stage.job), 1});
        stage.hub.send(stage.peer, stage.plan_for(2));
        CHECK(stage.next<Failed>().reason == "a plan for client 2, but this node speaks for 1");
        stage.hub.send(stage.peer, stage.plan_for(1));
        CHECK(stage.next<Update>().report.samples == 60);
    }

    TEST_CASE("a job that calibrates on more samples than a client has is bad input from the start") {
        const Dataset data = two_blobs(60);
        Job job = Stage::made_job();  // 3 clients of 20 samples
        job.noise = {.kind = "differential", .calibration = 21};
        LoopbackHub hub;
        const auto channel = hub.connect();
        auto session =
            std::async(std::launch::async, [&] { run_session(*channel, {.node = "worker-1", .data = &data}); });
        while (session.wait_for(0s) != std::future_status::ready)
            if (const auto event = hub.next_event(Clock::now() + 100ms))
                if (const auto* joined = std::get_if<PeerJoined>(&*event))
                    hub.send(joined->peer, Welcome{to_toml(job)});
        CHECK_THROWS_WITH_AS(session.get(), doctest::Contains("client 0 has 20"), InputError);
    }

    TEST_CASE("what a counted update left is in the next one, whichever session makes it; a lost one takes none") {
        const TemporaryFolder folder;
        // Client 2's payload of a round, from a session of its own.
        const auto payload_of = [&](const std::string& kind, std::uint32_t round, std::uint32_t counted) {
            Stage stage;
            stage.job.codec.uplink.kind = kind;
            stage.job.output.dir = folder.path() / "run";
            return stage.payload_of(stage.plan_of(round, counted));
        };
        const Schema schema({{.name = "fc1", .count = 10, .tensors = {{"weight", Shape{10}, 0}}}});
        const auto decoded = [&](const std::string& kind, const std::vector<std::byte>& payload) {
            std::vector<float> values(10);
            make_codec({.kind = kind}, schema)->decode(payload, {}, values);
            return values;
        };
        const auto encoded = [&](const std::vector<float>& values) {
            std::vector<std::byte> payload;
            make_codec({.kind = "sign"}, schema)->encode(values, {}, payload);
            return payload;
        };
        const auto first = decoded("raw", payload_of("raw", 1, 0));
        const auto second = decoded("raw", payload_of("raw", 2, 0));
        const auto sent = payload_of("sign", 1, 0);
        CHECK(sent == encoded(first));
        CHECK(std::filesystem::exists(folder.path() / "run" / "clients" / "client-2.residual"));
        auto corrected = second;
        for (std::size_t i = 0; i < corrected.size(); ++i)
            corrected[i] += first[i] - decoded("sign", sent)[i];
        CHECK(payload_of("sign", 2, 1) == encoded(corrected));
        CHECK(payload_of("sign", 2, 1) == encoded(corrected));  // asked again, as after a lost connection
        CHECK(payload_of("sign", 2, 0) == encoded(second));
    }

    TEST_CASE("a client reports what its codec loses where the job asks, and sends what it sends otherwise") {
        const TemporaryFolder folder;
        const auto update_of = [&](const std::string& kind, bool measures, std::uint32_t round, std::uint32_t counted) {
            Stage stage;
            stage.job.codec.uplink.kind = kind;
            stage.job.codec.measure_uplink = measures;
            stage.job.output.dir = folder.path() / "run";
            return stage.update_of(stage.plan_of(round, counted));
        };
        const Schema schema({{.name = "fc1", .count = 10, .tensors = {{"weight", Shape{10}, 0}}}});
        const auto decoded = [&](const std::string& kind, const Update& update) {
            std::vector<float> values(10);
            make_codec({.kind = kind}, schema)->decode(update.payload, {}, values);
            return values;
        };
        const auto nmse = [](const std::vector<float>& given, const std::vector<float>& arrived) {
            double error = 0;
            double norm = 0;
            for (std::size_t i = 0; i < given.size(); ++i) {
                error += std::pow(double(given[i]) - double(arrived[i]), 2);
                norm += std::pow(double(given[i]), 2);
            }
            return error / norm;
        };
        const Update exact = update_of("raw", true, 1, 0);
        CHECK(exact.report.update_nmse == 0);
        CHECK(exact.report.layers[0].update_nmse == 0);
        for (const char* kind : {"terngrad", "sign"}) {
            CAPTURE(kind);
            const Update plain = update_of(kind, false, 1, 0);
            CHECK(plain.report.update_nmse == kNotMeasured);
            CHECK(plain.report.layers[0].update_nmse == kNotMeasured);
            const Update measured = update_of(kind, true, 1, 0);
            CHECK(measured.payload == plain.payload);
            const double expected = nmse(decoded("raw", exact), decoded(kind, measured));
            CHECK(expected > 0.05);
            CHECK(measured.report.update_nmse == doctest::Approx(expected).epsilon(1e-5));
            CHECK(measured.report.layers[0].update_nmse == measured.report.update_nmse);
        }
        // With error feedback: of the update and what the one before has left.
        auto corrected = decoded("raw", update_of("raw", false, 2, 0));
        const auto sent = decoded("sign", update_of("sign", false, 1, 0));
        for (std::size_t i = 0; i < corrected.size(); ++i)
            corrected[i] += decoded("raw", exact)[i] - sent[i];
        const Update second = update_of("sign", true, 2, 1);
        CHECK(second.report.update_nmse == doctest::Approx(nmse(corrected, decoded("sign", second))).epsilon(1e-5));
    }

    TEST_CASE("with scaffold a client's steps follow from its control variate of the update that was counted") {
        const TemporaryFolder folder;
        const auto payload_of = [&](std::uint32_t round, std::uint32_t counted) {
            Stage stage;
            stage.job.federation.strategy.kind = "scaffold";
            stage.job.train.optimizer.momentum = 0;
            stage.job.output.dir = folder.path() / "run";
            RoundPlan plan = stage.plan_of(round, counted);
            plan.broadcast = broadcast_digest(std::vector<float>(10, 0.25F), std::vector<float>(10));
            return stage.payload_of(plan);
        };
        const auto first = payload_of(1, 0);
        CHECK(std::filesystem::exists(folder.path() / "run" / "clients" / "controls" / "client-2.residual"));
        const auto lost = payload_of(2, 1);
        CHECK(payload_of(2, 1) == lost);  // asked again, as after a lost connection
        CHECK(payload_of(2, 0) != lost);
        payload_of(1, 0);
        const auto counted = payload_of(3, 1);
        payload_of(4, 1);  // not counted
        CHECK(payload_of(3, 1) == counted);
    }

    TEST_CASE("a client that feeds errors back needs a folder of its own") {
        const Dataset data = two_blobs(60);
        LoopbackHub hub;
        const auto channel = hub.connect();
        auto session = std::async(std::launch::async,
                                  [&] { run_session(*channel, {.node = "edge", .client = 0, .data = &data}); });
        Job job = Stage::made_job();
        job.codec.uplink.kind = "sign";
        while (session.wait_for(0s) != std::future_status::ready)
            if (const auto event = hub.next_event(Clock::now() + 100ms))
                if (const auto* joined = std::get_if<PeerJoined>(&*event))
                    hub.send(joined->peer, Welcome{to_toml(job), 0});
        CHECK_THROWS_WITH_AS(session.get(), doctest::Contains("needs a folder for its state"), InputError);
    }
}
