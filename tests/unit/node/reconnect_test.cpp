// What a session keeps from one connection to the next. No channel: a session is handed messages.
#include <doctest/doctest.h>

#include <vector>

#include "core/config.hpp"
#include "core/error.hpp"
#include "node/session.hpp"
#include "tests/unit/made_up_data.hpp"
#include "tests/unit/temporary_folder.hpp"
#include "transport/codec.hpp"

using namespace dither;

namespace {

/// A node that speaks for a client of a job of two linear outputs, and what an aggregator would tell it.
struct Node {
    Dataset data = two_blobs(60);
    Job job = made_job();
    Session session;

    explicit Node(std::uint32_t client = 1) : session({.node = "edge", .client = client, .data = &data}) {}

    /// As many samples of the same shape.
    static Dataset constant_data() { return {Shape{1, 4}, std::vector<float>(240, 1), std::vector<int>(60), 2, {}, 2}; }

    static Job made_job() {
        Job job;
        job.model.name = "linear";
        job.federation.clients = 3;
        job.federation.cohort = 1;
        job.codec.uplink.kind = job.codec.downlink.kind = "raw";
        return job;
    }

    void connect(std::uint32_t as = 1) {
        session.hello();
        session.handle(Welcome{to_toml(job), as});
    }

    static RoundPlan plan(std::uint32_t round) {
        const std::vector<float> model(10, 0.25F);  // 4 x 2 weights and 2 biases
        RoundPlan plan{.round = round, .client = 1, .plan = PrecisionPlan::uniform(1, 32)};
        plan.uplink_steps = {1.0F};
        plan.broadcast = sha256(model);
        const auto bytes = std::as_bytes(std::span(model));
        plan.parts = {{.round = round, .payload = std::vector(bytes.begin(), bytes.end())}};
        return plan;
    }

    Update trained(const RoundPlan& plan) {
        const std::optional<Message> answer = session.handle(plan);
        REQUIRE(answer);
        REQUIRE(std::holds_alternative<Update>(*answer));
        return std::get<Update>(*answer);
    }

    /// Whether it is trained again, on what the data is now, rather than remembered.
    bool trains_again(const RoundPlan& plan, const Update& before) {
        data = constant_data();
        return trained(plan).payload != before.payload;
    }
};

}  // namespace

TEST_SUITE("node/reconnect") {
    TEST_CASE("the same task on a new connection is answered by the very same update, without training") {
        Node node;
        node.connect();
        const Update first = node.trained(Node::plan(1));
        node.connect();
        CHECK_FALSE(node.trains_again(Node::plan(1), first));
    }

    TEST_CASE("an update is remembered whichever way the model comes the second time") {
        Node node;
        node.connect();
        RoundPlan plan = Node::plan(2);
        const Update first = node.trained(plan);
        node.connect();
        plan.base = 2;  // it holds the model of this round
        plan.parts.clear();
        CHECK_FALSE(node.trains_again(plan, first));
    }

    TEST_CASE("an update is forgotten once its round is committed, and not by another round's end") {
        Node node;
        node.connect();
        const Update first = node.trained(Node::plan(2));
        node.session.handle(RoundCommitted{.round = 1, .client = 1});
        CHECK(node.trained(Node::plan(2)) == first);
        node.session.handle(RoundCommitted{.round = 2, .client = 1});
        node.connect();
        CHECK(node.trains_again(Node::plan(2), first));
    }

    TEST_CASE("an update is forgotten when a later round's task arrives") {
        Node node;
        node.connect();
        const Update first = node.trained(Node::plan(1));
        CHECK(node.trained(Node::plan(2)).round == 2);
        node.connect();
        CHECK(node.trains_again(Node::plan(1), first));
    }

    TEST_CASE("a plan of a round that is over, or that failed before, gets no answer on the same connection") {
        Node node;
        node.connect();
        RoundPlan failing = Node::plan(2);
        failing.broadcast = {};  // not the model that the parts lead to
        const auto failure = node.session.handle(failing);
        REQUIRE(failure);
        CHECK(std::holds_alternative<Failed>(*failure));
        CHECK_FALSE(node.session.handle(failing));
        CHECK_FALSE(node.session.handle(Node::plan(1)));
        CHECK(node.trained(Node::plan(3)).round == 3);
    }

    TEST_CASE("a task under another plan or with another count is another task") {
        Node node;
        node.connect();
        const Update first = node.trained(Node::plan(2));
        RoundPlan coarser = Node::plan(2);
        coarser.plan = PrecisionPlan::uniform(1, 8);
        CHECK(node.trained(coarser).payload != first.payload);
        RoundPlan counted = Node::plan(2);
        counted.counted = 1;
        CHECK(node.trains_again(counted, first));
    }

    TEST_CASE("another job is another beginning: nothing of the old one is remembered") {
        Node node;
        node.connect();
        const Update first = node.trained(Node::plan(1));
        node.job.job.rounds = 99;
        node.connect();
        CHECK(node.trains_again(Node::plan(1), first));
    }

    TEST_CASE("a node keeps the model that it holds while its connections come and go") {
        Node node;
        node.connect();
        node.trained(Node::plan(4));
        node.connect();
        RoundPlan next = Node::plan(5);
        next.base = 4;
        next.parts = {{.round = 5}};  // an abandoned round changed nothing
        CHECK(node.trained(next).round == 5);
    }

    TEST_CASE("a node that leaves the choice to the aggregator speaks for the client that it is welcomed as") {
        Node node(kAssignedClient);
        CHECK(node.session.hello().client == kAssignedClient);
        node.session.handle(Welcome{to_toml(node.job), 1});
        CHECK(node.trained(Node::plan(1)).report.samples == 60);
        RoundPlan other = Node::plan(1);
        other.client = 2;
        const auto refused = node.session.handle(other);
        REQUIRE(refused);
        CHECK(std::get<Failed>(*refused).reason == "a plan for client 2, but this node speaks for 1");
    }

    TEST_CASE("a node refuses a welcome as another client than it speaks for") {
        CHECK_THROWS_WITH_AS(Node(1).connect(2),
                             "the aggregator welcomes this node as client 2, but it speaks for client 1", FormatError);
        CHECK_THROWS_AS(Node(1).connect(kAnyClient), FormatError);
        CHECK_THROWS_AS(Node(kAnyClient).connect(1), FormatError);
        CHECK_THROWS_AS(Node(kAssignedClient).connect(kAnyClient), FormatError);
    }

    TEST_CASE("a plan before the welcome is refused on every connection") {
        Node node;
        node.session.hello();
        CHECK_THROWS_AS(node.session.handle(Node::plan(1)), FormatError);
        node.connect();
        node.session.hello();
        CHECK_THROWS_AS(node.session.handle(Node::plan(1)), FormatError);
    }

    TEST_CASE("a session says why the aggregator stopped it, until it says hello again") {
        Node node;
        node.connect();
        CHECK_FALSE(node.session.stopped());
        node.session.handle(Stop{"the run is complete"});
        CHECK(node.session.stopped() == "the run is complete");
        node.session.hello();
        CHECK_FALSE(node.session.stopped());
    }

    TEST_CASE("whoever watches a session hears every message and every answer") {
        const Dataset data = two_blobs(60);
        std::vector<std::string> seen;
        Session session(
            {.node = "edge", .client = 1, .data = &data, .watch = [&](const Message& heard, const Message* answer) {
                 seen.push_back(std::string(name_of(heard)) + " " +
                                std::string(answer != nullptr ? name_of(*answer) : "-"));
             }});
        session.hello();
        session.handle(Welcome{to_toml(Node::made_job()), 1});
        session.handle(Node::plan(1));
        session.handle(UpdateAck{.round = 1, .client = 1, .accepted = true});
        session.handle(Stop{"over"});
        CHECK(seen == std::vector<std::string>{"Welcome -", "RoundPlan Update", "UpdateAck -", "Stop -"});
    }
}
