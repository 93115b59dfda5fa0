#include "node/trainer.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "core/error.hpp"
#include "core/vector_math.hpp"
#include "tests/unit/made_up_data.hpp"

using namespace dither;

namespace {

Job small_job() {
    Job job;
    job.model.name = "mlp";
    job.model.hidden = {8};
    job.train.batch_size = 16;
    job.train.optimizer.lr = 0.1;
    job.precision.policy = "fp32";
    return job;
}

struct Bench {
    explicit Bench(const Job& wanted) : job(wanted) {
        Stream({.seed = 3, .purpose = Purpose::test}).fill_normal(model);
    }
    Job job;
    Dataset data = two_blobs(200);
    std::unique_ptr<Backend> backend = make_backend(job.compute);
    Trainer trainer{job, data, *backend};
    std::vector<float> model = std::vector<float>(trainer.schema().parameters());
    std::vector<float> update = std::vector<float>(model.size());
    PrecisionPlan plan = PrecisionPlan::uniform(trainer.schema().layer_count(), 32);

    TrainingReport train(std::uint32_t client, std::span<const std::uint32_t> indices, Probe probe = Probe::none) {
        return trainer.train({.client = client, .round = 1, .plan = &plan, .probe = probe}, indices, model, update);
    }
};

std::vector<std::uint32_t> first(std::size_t count) {
    std::vector<std::uint32_t> indices(count);
    std::iota(indices.begin(), indices.end(), 0U);
    return indices;
}

}  // namespace

TEST_SUITE("node/trainer") {
    TEST_CASE("repeated local epochs on separable data bring the loss down") {
        Job job = small_job();
        Bench once(job);
        const double early = once.train(0, first(200)).train_loss;
        job.train.epochs = 20;
        Bench often(job);
        CHECK(often.train(0, first(200)).train_loss < 0.5 * early);
    }

    TEST_CASE("a client's update does not depend on who was trained before it") {
        for (const int bits : {32, 8}) {
            Bench fresh(small_job());
            fresh.plan = PrecisionPlan::uniform(2, bits);
            fresh.train(7, first(100));
            Bench used(small_job());
            used.plan = fresh.plan;
            used.train(3, first(200));
            used.train(7, first(100));
            CHECK(fresh.update == used.update);
        }
    }

    TEST_CASE("two clients with the same samples shuffle them differently") {
        Bench bench(small_job());
        bench.train(1, first(100));
        const std::vector<float> other = bench.update;
        bench.train(2, first(100));
        CHECK(bench.update != other);
    }

    TEST_CASE("the report counts samples and steps and measures every layer") {
        Job job = small_job();
        job.train.epochs = 3;
        Bench bench(job);
        const TrainingReport report = bench.train(0, first(50));
        CHECK(report.samples == 50);
        CHECK(report.steps == 12);  // 3 epochs of 16 + 16 + 16 + 2
        REQUIRE(report.layers.size() == 2);
        for (std::size_t i = 0; i < 2; ++i) {
            const LayerStatistics& layer = report.layers[i];
            const auto change = bench.trainer.schema().slice(std::span<const float>(bench.update), i);
            CHECK(layer.grad_norm > 0);
            CHECK(layer.signal_norm > 0);
            CHECK(layer.theta_norm > 0);
            CHECK(layer.update_range == max_magnitude(change));
            CHECK(layer.update_rms == doctest::Approx(std::sqrt(squared_norm(change) / double(change.size()))));
            CHECK(layer.curvature == kNotMeasured);
        }
    }

    TEST_CASE("norms speak of trained parameters, the update's size of running statistics too") {
        Job job = small_job();
        job.model.name = "layers";
        job.model.layers = {{.kind = "linear", .outputs = 8}, {.kind = "batch_norm"}, {.kind = "linear"}};
        Bench bench(job);
        const LayerSpec& norm = bench.trainer.schema().layers()[1];
        REQUIRE(norm.trained_count() == 16);
        REQUIRE(norm.count == 32);
        std::fill_n(bench.model.begin() + static_cast<std::ptrdiff_t>(norm.offset + 16), 16, 100.0F);  // far off
        const LayerStatistics layer = bench.train(0, first(100)).layers[1];
        const auto change = bench.trainer.schema().slice(std::span<const float>(bench.update), 1);
        const auto before = bench.trainer.schema().slice(std::span<const float>(bench.model), 1);
        double squares = 0;
        for (std::size_t i = 0; i < 16; ++i)
            squares += std::pow(static_cast<double>(before[i]) + static_cast<double>(change[i]), 2);
        CHECK(layer.theta_norm == doctest::Approx(std::sqrt(squares)).epsilon(1e-4));
        CHECK(layer.grad_norm > 0);
        CHECK(layer.update_range == max_magnitude(change));
        CHECK(layer.update_range > 10 * max_magnitude(change.first(16)));
        CHECK(layer.update_rms == doctest::Approx(std::sqrt(squared_norm(change) / 32)));
    }

    TEST_CASE("asking for the curvature adds it and does not change the update") {
        Bench plain(small_job());
        plain.train(4, first(100));
        Bench probed(small_job());
        const TrainingReport report = probed.train(4, first(100), Probe::curvature);
        for (const LayerStatistics& layer : report.layers)
            CHECK(layer.curvature > 0);
        CHECK(plain.update == probed.update);
    }

    TEST_CASE("a diverging client is named with its round, step and loss") {
        Job job = small_job();
        job.train.optimizer.lr = 1e30;
        job.train.epochs = 5;
        Bench bench(job);
        try {
            bench.train(9, first(100));
            FAIL("training at lr = 1e30 must diverge");
        } catch (const TrainingError& error) {
            CHECK(std::string(error.what()).find("client 9, round 1") != std::string::npos);
        }
    }
}
