#include "aggregator/detail/round_account.hpp"

#include "core/compute/backend.hpp"

#include <limits>

#include <doctest/doctest.h>

using namespace dither;

namespace {

struct Federation {
    Job job;
    std::unique_ptr<Backend> backend = make_backend({});
    std::unique_ptr<Model> model;

    Federation() {
        job.model.name = "mlp";
        job.model.hidden = {6};
        job.train.epochs = 2;
        job.train.batch_size = 8;
        model = make_model(job.model, job.quantize, {Shape{1, 4}, 3, 8}, *backend);
    }

    WeightedReport report(std::uint32_t client, int bits, Probe probe = Probe::none) const {
        const std::size_t layers = model->schema().layer_count();
        return {.client = client,
                .weight = 16,
                .report = {.samples = 16,
                           .steps = 4,
                           .train_loss = 1,
                           .seconds = 2,
                           .probe_seconds = 0.5F,
                           .layers = std::vector<LayerStatistics>(layers)},
                .probe = probe,
                .plan = PrecisionPlan::uniform(layers, bits)};
    }

    RoundRecord account(std::vector<WeightedReport> reports) const {
        RoundRecord record;
        dither::account(job, *model, reports, record);
        return record;
    }
};

}  // namespace

TEST_SUITE("aggregator/round_account") {
    TEST_CASE("a round has the error of its participants' updates where any of them measured it") {
        const Federation federation;
        std::vector<WeightedReport> reports{federation.report(0, 8), federation.report(1, 8)};
        CHECK_FALSE(federation.account(reports).update_nmse);
        reports[0].report.update_nmse = 0.25F;
        reports[1].report.update_nmse = 0.5F;
        CHECK(federation.account(reports).update_nmse == 0.375);
    }

    TEST_CASE("work is counted from the plan that each node ran") {
        const Federation federation;
        const RoundRecord four = federation.account({federation.report(0, 4)});
        const RoundRecord both = federation.account({federation.report(0, 4), federation.report(1, 16)});
        CHECK(both.plans == 2);
        CHECK(both.samples == 64);
        CHECK(both.bit_ops.training_fp32 == 2 * four.bit_ops.training_fp32);
        CHECK(both.bit_ops.training == (4 + 16) * four.bit_ops.training / 4);
        CHECK(both.bit_ops.bops == (4 * 4 + 16 * 16) * four.bit_ops.bops / (4 * 4));
        double layers = 0;
        for (const LayerBitOps& work : both.work)
            layers += work.forward + work.backward;
        CHECK(layers == both.bit_ops.training);
    }

    TEST_CASE("measurements are counted for those that were asked to make them, and times add up") {
        const Federation federation;
        const RoundRecord plain = federation.account({federation.report(0, 4), federation.report(1, 4)});
        CHECK(plain.plans == 1);
        CHECK(plain.bit_ops.probe == 0);
        CHECK(plain.train_seconds == 4);
        CHECK(plain.probe_seconds == 1);
        const RoundRecord probed =
            federation.account({federation.report(0, 4, Probe::sensitivity), federation.report(1, 4)});
        CHECK(probed.bit_ops.probe > 0);
        CHECK(probed.bit_ops.training == plain.bit_ops.training);
    }

    TEST_CASE("a round without participants has neither losses nor work") {
        const RoundRecord none = Federation().account({});
        CHECK_FALSE(none.train_loss);
        CHECK_FALSE(none.grad_norm);
        CHECK(none.work.empty());
        CHECK(none.layers.size() == 2);
    }
}
