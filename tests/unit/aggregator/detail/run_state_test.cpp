#include "aggregator/detail/run_state.hpp"

#include "core/error.hpp"
#include "tests/unit/aggregator/fake_federation.hpp"

#include <doctest/doctest.h>

using namespace dither;
using test::small_job;

namespace {

/// What a run's state borrows.
struct Home {
    std::unique_ptr<Backend> backend = make_backend({});
    std::unique_ptr<Model> model;

    explicit Home(const Job& job) : model(make_model(job.model, job.quantize, {Shape{1, 4}, 3, 10}, *backend)) {}
};

/// What a file would hold of it.
Checkpoint stored(const RunState& state) {
    std::string bytes;
    write_checkpoint(state.checkpoint(), [&](std::string_view more) { bytes += more; });
    return read_checkpoint(bytes, "model.dither");
}

}  // namespace

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

    TEST_CASE("a run of an earlier version is not resumed, and is told why") {
        const Job job = small_job();
        Home home(job);
        RunState state(job, *home.model);
        Checkpoint old = stored(state);
        old.version = 3;
        std::string error;
        try {
            state.restore(old, "model.dither");
        } catch (const InputError& e) {
            error = e.what();
        }
        CHECK(error == "model.dither was written by an earlier version (3): runs of version 6 can be resumed");
    }

    TEST_CASE("a state to go back to that this job cannot have is refused by name") {
        const Job job = small_job();
        Home home(job);
        RunState state(job, *home.model);
        Checkpoint checkpoint = stored(state);
        checkpoint.good.strategy = {1, 2, 3};
        CHECK_THROWS_AS(state.restore(checkpoint, "model.dither"), InputError);
        checkpoint = stored(state);
        checkpoint.good.links.pop_back();
        CHECK_THROWS_AS(state.restore(checkpoint, "model.dither"), InputError);
    }

    TEST_CASE("the average of the models goes back with the model") {
        const Job job = small_job();
        Home home(job);
        RunState state(job, *home.model);
        const auto next = [&](std::uint32_t round, float value) {
            std::ranges::fill(home.model->parameters(), value);
            state.model_round = state.round = round;
            state.average.add(std::as_const(*home.model).parameters());
        };
        next(1, 1);
        state.model_is_good();
        next(2, 3);
        CHECK(state.average.model()[0] == 2);
        CHECK(state.roll_back() == 1);
        CHECK(state.average.rounds() == 1);
        CHECK(state.average.model()[0] == 1);
        CHECK(std::as_const(*home.model).parameters()[0] == 1);
    }
}
