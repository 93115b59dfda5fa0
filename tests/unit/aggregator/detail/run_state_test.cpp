#include "aggregator/detail/run_state.hpp"

#include <doctest/doctest.h>

using namespace dither;

TEST_SUITE("aggregator/run_state") {
    TEST_CASE("jobs that differ are told apart by the names of their keys") {
        Job one;
        Job other = one;
        CHECK(differing_keys(to_toml(one), to_toml(other)).empty());
        other.job.seed = 7;
        other.federation.partition.alpha = 0.1;
        CHECK(differing_keys(to_toml(one), to_toml(other)) == "federation.partition, job.seed");
    }

    TEST_CASE("where a run writes, what computes it and how long it goes do not make it another job") {
        Job one;
        Job other = one;
        other.output.dir = "elsewhere";
        other.compute.backend = "eigen";
        other.job.rounds = 99;
        CHECK(differing_keys(to_toml(one), to_toml(other)).empty());
        CHECK(identity(one) == identity(other));
    }

    TEST_CASE("how long a run goes makes it another job where the learning rate goes down to its end") {
        Job one;
        one.train.schedule.kind = "cosine";
        Job other = one;
        other.job.rounds = 99;
        CHECK(differing_keys(to_toml(one), to_toml(other)) == "job.rounds");
        CHECK(identity(one) != identity(other));
        other.train.schedule.kind = "step";
        CHECK(differing_keys(to_toml(one), to_toml(other)) == "train.schedule");
    }
}
