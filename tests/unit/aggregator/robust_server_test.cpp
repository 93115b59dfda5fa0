// Robust rules in the server's loop.
#include "aggregator/sampling.hpp"
#include "core/little_endian.hpp"
#include "tests/unit/aggregator/fake_federation.hpp"

#include <doctest/doctest.h>

using namespace dither;
using namespace dither::test;

namespace {

Job robust_job(const std::string& rule) {
    Job job = small_job();
    job.federation.cohort = 5;
    job.federation.aggregation = {.kind = rule, .faulty = 0.2};
    return job;
}

/// Multiplies what one client of round 3 sends, as floats.
std::function<void(Update&)> loud(const Job& job, float factor) {
    return [client = clients_of_round(job, 3).front(), factor](Update& update) {
        if (update.round != 3 || update.client != client)
            return;
        for (std::size_t at = 0; at < update.payload.size(); at += sizeof(float))
            store_little(factor * load_little<float>(update.payload.data() + at), update.payload.data() + at);
    };
}

}  // namespace

TEST_SUITE("aggregator/robust_server") {
    TEST_CASE("the model does not depend on how many peers train its clients") {
        for (const std::string attack : {"none", "gaussian"}) {
            Job job = robust_job("multi_krum");
            job.federation.attack = {.kind = attack, .share = 0.2, .scale = 1};
            const TemporaryFolder one, three;
            const RunResult alone = run_honestly(job, one.path());
            const RunResult together = run(job, three.path(), {{honest(job)}, {honest(job)}, {honest(job)}});
            CHECK(alone.model == together.model);
            CHECK(rounds_of(one.path()).size() == 5);
        }
    }

    TEST_CASE("an attack changes what the mean makes of the same updates") {
        const TemporaryFolder honestly, attacked;
        Job job = robust_job("mean");
        const RunResult before = run_honestly(job, honestly.path());
        job.federation.attack = {.kind = "sign_flip", .share = 0.4, .scale = 1};
        CHECK(run_honestly(job, attacked.path()).model != before.model);
    }

    TEST_CASE("what is far longer than the last round's updates counts the same however long it is") {
        Job job = small_job();
        job.codec.uplink.kind = "raw";
        const auto model_with = [&](float factor, double clip, std::uint32_t expected) {
            job.federation.aggregation.clip = clip;
            const TemporaryFolder folder;
            const RunResult result = run(job, folder.path(), {{dishonest(job, loud(job, factor))}});
            CHECK(total_of(rounds_of(folder.path()), "clipped") == expected);
            return result.model;
        };
        CHECK(model_with(1000, 4, 1) == model_with(100'000, 4, 1));
        CHECK(model_with(1000, 0, 0) != model_with(100'000, 0, 0));
        CHECK(model_with(1, 4, 0) == model_with(1, 0, 0));
    }

    TEST_CASE("a round with fewer updates than its rule needs is abandoned, and says so") {
        const Job job = robust_job("krum");
        const TemporaryFolder folder;
        const std::uint32_t client = clients_of_round(job, 2).front();
        run(job, folder.path(), {{failing(job, 2, client, false)}});
        const auto rounds = rounds_of(folder.path());
        CHECK(rounds[0]["committed"] == true);
        CHECK(rounds[1]["committed"] == false);
        CHECK(rounds[1]["reason"].get<std::string>().find("of the 5 needed") != std::string::npos);
        CHECK(rounds[2]["committed"] == true);
    }
}
