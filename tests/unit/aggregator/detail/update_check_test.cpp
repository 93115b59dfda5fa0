#include "aggregator/detail/update_check.hpp"

#include "tests/unit/aggregator/fixtures.hpp"

#include <doctest/doctest.h>

using namespace dither;
using test::small_schema;

namespace {

constexpr HeldOutScore kScore{
    .samples = 25, .loss = 1, .accuracy = 0.5F, .personal_loss = 0.5F, .personal_accuracy = 0.75F};

/// What is left of a report of 75 trained samples, where the job holds a quarter back.
HeldOutScore kept(const HeldOutScore& score, Probe asked) {
    Job job;
    job.federation.holdout = 0.25;
    const auto codec = make_codec(job.codec.uplink, small_schema());
    const UpdateCheck check(job, small_schema(), *codec);
    TrainingReport report{.samples = 75, .held_out = score, .layers = {}};
    return check.believable(report, asked, {}).held_out;
}

/// What is left of a report with errors of the update, where the job measures them or not.
TrainingReport kept_of_errors(bool measures) {
    Job job;
    job.codec.uplink.kind = "raw";
    job.codec.measure_uplink = measures;
    const Schema schema = small_schema();
    const auto codec = make_codec(job.codec.uplink, schema);
    const UpdateCheck check(job, schema, *codec);
    TrainingReport report{.samples = 75, .update_nmse = 0.5F};
    report.layers.assign(schema.layer_count(), {.update_nmse = 0.25F});
    return check.believable(report, Probe::none, {});
}

}  // namespace

TEST_SUITE("aggregator/update_check") {
    TEST_CASE("a score of held-out samples counts where it was asked for") {
        CHECK(kept(kScore, Probe::held_out) == kScore);
        CHECK(kept(kScore, Probe::held_out | Probe::curvature) == kScore);
        CHECK(kept(kScore, Probe::curvature) == HeldOutScore{});
    }

    TEST_CASE("errors of what was sent count where the job has them measured") {
        const TrainingReport measured = kept_of_errors(true);
        CHECK(measured.update_nmse == 0.5F);
        CHECK(measured.layers[1].update_nmse == 0.25F);
        const TrainingReport unasked = kept_of_errors(false);
        CHECK(unasked.update_nmse == kNotMeasured);
        CHECK(unasked.layers[1].update_nmse == kNotMeasured);
    }

    TEST_CASE("a score of other samples than the job holds back, or of a negative loss, does not count") {
        HeldOutScore score = kScore;
        score.samples = 26;
        CHECK(kept(score, Probe::held_out) == HeldOutScore{});
        score.samples = ~std::uint64_t{0};
        CHECK(kept(score, Probe::held_out) == HeldOutScore{});
        score = kScore;
        score.loss = -1;
        CHECK(kept(score, Probe::held_out) == HeldOutScore{});
        score = kScore;
        score.personal_loss = -1;
        CHECK(kept(score, Probe::held_out) == HeldOutScore{});
    }
}
