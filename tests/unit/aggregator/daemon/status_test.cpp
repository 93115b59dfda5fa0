#include "aggregator/daemon/status.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using dither::HubStatistics;
using dither::Job;
using dither::PrecisionPlan;
using dither::RoundRecord;
using dither::Status;

namespace {

Job job() {
    Job job;
    job.job.name = "watched";
    job.job.rounds = 7;
    job.federation.cohort = 4;
    return job;
}

HubStatistics connections() {
    return {.accepted = 9, .refused = 2, .connections = 5, .peers = 4};
}

RoundRecord committed_round() {
    RoundRecord record;
    record.round = 1;
    record.train_loss = 0.5;
    record.test_accuracy = 0.75;
    record.participants = 4;
    record.rejected = 1;
    record.bytes_up = 1000;
    record.bytes_down = 2000;
    record.plan = PrecisionPlan::uniform(2, 8);
    return record;
}

bool has_line(const std::string& text, const std::string& line) {
    return text.find('\n' + line + '\n') != std::string::npos;
}

}  // namespace

TEST_SUITE("aggregator/daemon/status") {
    TEST_CASE("before the first round the status says that nodes are waited for") {
        const Status status(job(), connections);
        const auto json = nlohmann::json::parse(status.page("/status")->body);
        CHECK(json["state"] == "waiting for nodes");
        CHECK(json["job"] == "watched");
        CHECK(json["connections"] == 5);
        CHECK(json["peers"] == 4);
        CHECK_FALSE(json.contains("last_round"));
        CHECK(status.page("/healthz")->status == 200);
        CHECK_FALSE(status.page("/"));
    }

    TEST_CASE("what a round brought is counted, for people and for Prometheus") {
        Status status(job(), connections);
        const RoundRecord record = committed_round();
        status.show({.round = 1, .arrived = 4, .cohort = 4, .ended = &record});
        RoundRecord lost = record;
        lost.committed = false;
        lost.test_accuracy.reset();
        status.show({.round = 2, .arrived = 1, .cohort = 4, .ended = &lost});
        status.show({.round = 3, .arrived = 2, .cohort = 4});

        const auto json = nlohmann::json::parse(status.page("/status")->body);
        CHECK(json["state"] == "running");
        CHECK(json["round"] == 3);
        CHECK(json["arrived"] == 2);
        CHECK(json["test_accuracy"] == 0.75);
        CHECK(json["since_start"]["bytes_up"] == 2000);
        CHECK(json["last_round"]["committed"] == false);

        const std::string metrics = '\n' + status.page("/metrics")->body;
        CHECK(has_line(metrics, "# TYPE dither_rounds_total counter"));
        CHECK(has_line(metrics, "dither_rounds_total{result=\"committed\"} 1"));
        CHECK(has_line(metrics, "dither_rounds_total{result=\"abandoned\"} 1"));
        CHECK(has_line(metrics, "dither_updates_total{result=\"rejected\"} 2"));
        CHECK(has_line(metrics, "dither_bytes_total{direction=\"down\"} 4000"));
        CHECK(has_line(metrics, "dither_plan_bits{phase=\"forward\"} 8"));
        CHECK(has_line(metrics, "dither_connections 5"));
        CHECK(has_line(metrics, "dither_peers 4"));
    }

    TEST_CASE("a daemon that has ended is not healthy, and says why") {
        Status status(job(), connections);
        status.end("the run is complete");
        CHECK(status.page("/healthz")->status == 503);
        CHECK(status.page("/healthz")->body == "the run is complete\n");
        CHECK(nlohmann::json::parse(status.page("/status")->body)["state"] == "the run is complete");
    }
}
