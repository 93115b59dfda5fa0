#include "node/trainer.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "core/error.hpp"
#include "core/model/evaluate.hpp"
#include "core/optim/local_progress.hpp"
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

    TrainingReport train(std::uint32_t client, std::span<const std::uint32_t> indices, Probe probe = Probe::none,
                         std::uint32_t round = 1) {
        return trainer.train({.client = client, .round = round, .plan = &plan, .probe = probe}, indices, model, update);
    }
};

std::vector<std::uint32_t> first(std::size_t count) {
    std::vector<std::uint32_t> indices(count);
    std::iota(indices.begin(), indices.end(), 0U);
    return indices;
}

/// What does not depend on the clock.
TrainingReport without_times(TrainingReport report) {
    report.seconds = report.probe_seconds = 0;
    return report;
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

    TEST_CASE("who flips labels trains as if the last class were the first one") {
        Bench bench(small_job());
        Batch all;
        bench.data.gather(first(200), all);
        for (std::int32_t& label : all.targets.labels)
            label = 1 - label;
        const auto inputs = std::as_const(all.inputs).values();
        const std::vector<float> values(inputs.begin(), inputs.end());
        const Dataset flipped(Shape{1, 4}, values, all.targets.labels, 2, {}, 2);
        const TrainingTask task{.client = 5, .round = 1, .plan = &bench.plan, .probe = Probe::curvature};
        std::vector<float> expected(bench.update.size());
        const TrainingReport honest =
            Trainer(bench.job, flipped, *bench.backend).train(task, first(100), bench.model, expected);
        TrainingTask lie = task;
        lie.flips_labels = true;
        const TrainingReport report = bench.trainer.train(lie, first(100), bench.model, bench.update);
        CHECK(bench.update == expected);
        CHECK(without_times(report) == without_times(honest));
    }

    TEST_CASE("held-out samples score the received model and the trained one, and change nothing else") {
        for (const int bits : {32, 8}) {
            Bench bench(small_job());
            bench.plan = PrecisionPlan::uniform(2, bits);
            const std::vector<std::uint32_t> trained = first(100);
            std::vector<std::uint32_t> held_out(60);
            std::iota(held_out.begin(), held_out.end(), 140U);
            TrainingTask task{.client = 5, .round = 1, .plan = &bench.plan, .probe = Probe::curvature};
            const TrainingReport plain = bench.trainer.train(task, trained, bench.model, bench.update);
            const std::vector<float> update = bench.update;
            CHECK(plain.held_out == HeldOutScore{});
            task.held_out = held_out;
            CHECK(bench.trainer.train(task, trained, bench.model, bench.update).held_out == HeldOutScore{});
            task.probe = task.probe | Probe::held_out;
            TrainingReport report = bench.trainer.train(task, trained, bench.model, bench.update);
            CHECK(bench.update == update);

            const auto model = make_model(bench.job.model, bench.job.quantize, {Shape{1, 4}, 2, 16}, *bench.backend);
            const auto score = [&](const std::vector<float>& parameters) {
                std::ranges::copy(parameters, model->parameters().begin());
                return evaluate(*model, *make_loss("cross_entropy"), bench.data, held_out, &bench.plan,
                                {.seed = bench.job.job.seed, .client = 5, .round = 1});
            };
            const Score before = score(bench.model);
            std::vector<float> after = bench.model;
            for (std::size_t i = 0; i < after.size(); ++i)
                after[i] += update[i];
            CHECK(report.held_out.samples == 60);
            CHECK(report.held_out.loss == static_cast<float>(before.mean_loss()));
            CHECK(report.held_out.accuracy == static_cast<float>(before.accuracy()));
            CHECK(report.held_out.personal_loss == doctest::Approx(score(after).mean_loss()).epsilon(1e-4));
            CHECK(report.held_out.personal_loss < report.held_out.loss);
            report.held_out = {};
            CHECK(without_times(report) == without_times(plain));
        }
    }

    TEST_CASE("evaluating held-out samples is no measurement that takes time from training") {
        Bench bench(small_job());
        const std::vector<std::uint32_t> held_out{150, 151};
        const TrainingTask task{
            .client = 5, .round = 1, .plan = &bench.plan, .probe = Probe::held_out, .held_out = held_out};
        const TrainingReport report = bench.trainer.train(task, first(100), bench.model, bench.update);
        CHECK(report.held_out.samples == 2);
        CHECK(report.probe_seconds == 0);
        CHECK(report.layers[0].curvature == kNotMeasured);
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

    TEST_CASE("a probe measures what it is asked for and nothing else, on layers with products") {
        Job job = small_job();
        job.model.name = "layers";
        job.model.layers = {{.kind = "linear", .outputs = 8}, {.kind = "batch_norm"}, {.kind = "linear"}};
        Bench bench(job);
        bench.plan = PrecisionPlan::uniform(3, 8);
        const TrainingReport plain = bench.train(4, first(100));
        const std::vector<float> update = bench.update;
        CHECK(plain.probe_seconds == 0);
        CHECK(plain.seconds > 0);
        for (const Probe probe :
             {Probe::curvature, Probe::curvature_norm, Probe::sensitivity, Probe::curvature | Probe::sensitivity}) {
            CAPTURE(static_cast<int>(probe));
            const TrainingReport report = bench.train(4, first(100), probe);
            CHECK(bench.update == update);
            CHECK(report.probe_seconds > 0);
            const bool norm = asks(probe, Probe::curvature_norm);
            for (std::size_t i = 0; i < 3; ++i) {
                CAPTURE(i);
                const LayerStatistics& layer = report.layers[i];
                CHECK((layer.curvature >= 0) == (norm || asks(probe, Probe::curvature)));
                CHECK((layer.curvature_trace >= 0) == (norm || asks(probe, Probe::curvature)));
                CHECK((layer.curvature_norm >= 0) == norm);
                CHECK((layer.forward_sensitivity > 0) == (i != 1 && asks(probe, Probe::sensitivity)));
                CHECK((layer.backward_sensitivity > 0) == (i != 1 && asks(probe, Probe::sensitivity)));
            }
            const TrainingReport again = bench.train(4, first(100), probe);
            CHECK(without_times(again) == without_times(report));
        }
    }

    TEST_CASE("every report says how far the optimizer magnifies an error of the gradient") {
        Job job = small_job();
        for (const LayerStatistics& layer : Bench(job).train(0, first(100)).layers)
            CHECK(layer.step_gain == 1);
        job.train.optimizer = {.kind = "adam", .lr = 0.001};
        for (const LayerStatistics& layer : Bench(job).train(0, first(100)).layers) {
            CHECK(layer.step_gain > 0);
            CHECK(layer.step_gain * layer.grad_norm > 1);  // 1 / RMS of the gradient's values
        }
    }

    TEST_CASE("both methods of computing curvature report about the same") {
        Job job = small_job();
        const TrainingReport exact = Bench(job).train(4, first(100), Probe::curvature);
        job.precision.curvature_method = "differences";
        const TrainingReport differences = Bench(job).train(4, first(100), Probe::curvature);
        for (std::size_t i = 0; i < exact.layers.size(); ++i)
            CHECK(exact.layers[i].curvature == doctest::Approx(differences.layers[i].curvature).epsilon(0.01));
    }

    TEST_CASE("a rate that the schedule has brought down to nothing trains nothing") {
        Job job = small_job();
        job.job.rounds = 4;
        job.train.schedule = {.kind = "step", .every_rounds = 1, .factor = 1e-30};
        Bench bench(job);
        bench.train(0, first(100), Probe::none, 1);
        CHECK(max_magnitude(bench.update) > 1e-3F);
        bench.train(0, first(100), Probe::none, 2);
        CHECK(max_magnitude(bench.update) == 0);
    }

    TEST_CASE("the rate falls within a round, step by step") {
        Job job = small_job();
        job.train.optimizer.momentum = 0;
        Bench constant(job);
        constant.train(0, first(100));
        job.job.rounds = 1;
        job.train.schedule.kind = "cosine";
        Bench cosine(job);
        cosine.train(0, first(100));
        CHECK(squared_norm(std::span<const float>(cosine.update)) <
              0.9 * squared_norm(std::span<const float>(constant.update)));
    }

    TEST_CASE("clipped gradients move the weights no further than the limit, and the report has their true norm") {
        Job job = small_job();
        job.train.optimizer = {.kind = "sgd", .lr = 1, .momentum = 0};
        job.train.clip_norm = 1e-3;
        Bench bench(job);
        const TrainingReport report = bench.train(0, first(16));  // one step
        CHECK(std::sqrt(squared_norm(std::span<const float>(bench.update))) == doctest::Approx(1e-3).epsilon(0.01));
        double squares = 0;
        for (const LayerStatistics& layer : report.layers)
            squares += static_cast<double>(layer.grad_norm) * layer.grad_norm;
        CHECK(squares > 1e-4);
    }

    TEST_CASE("a proximal step is the plain one and a pull back to the received model") {
        Job job = small_job();
        job.train.optimizer = {.kind = "sgd", .lr = 0.5, .momentum = 0};
        Bench once(job);
        once.train(0, first(16));  // one step, on which nothing pulls yet
        job.train.epochs = 2;
        Bench twice(job);
        twice.train(0, first(16));
        job.train.proximal = 0.4;
        Bench pulled(job);
        pulled.train(0, first(16));
        for (std::size_t j = 0; j < once.update.size(); ++j)
            CHECK(pulled.update[j] ==
                  doctest::Approx(twice.update[j] - 0.5 * 0.4 * once.update[j]).epsilon(1e-6).scale(1));
    }

    TEST_CASE("a corrected step is the clipped one and a share of c less c_i") {
        Job job = small_job();
        const double correction = job.federation.strategy.correction = 0.25;
        job.train.optimizer = {.kind = "sgd", .lr = 0.5, .momentum = 0};
        job.train.clip_norm = 1e-2;
        Bench bench(job);
        bench.train(0, first(16));
        const std::vector<float> plain = bench.update;
        std::vector<float> control(plain.size()), own(plain.size());
        Stream({.seed = 4, .purpose = Purpose::test}).fill_normal(control);
        Stream({.seed = 5, .purpose = Purpose::test}).fill_normal(own);
        bench.trainer.train({.client = 0, .round = 1, .plan = &bench.plan, .control = control, .own_control = own},
                            first(16), bench.model, bench.update);
        for (std::size_t j = 0; j < plain.size(); ++j)
            CHECK(bench.update[j] ==
                  doctest::Approx(plain[j] - 0.5 * correction * (control[j] - own[j])).epsilon(1e-6).scale(1));
    }

    TEST_CASE("with fednova a client sends its change divided by its local progress, running statistics whole") {
        Job job = small_job();
        job.model.name = "layers";
        job.model.layers = {{.kind = "linear", .outputs = 4}, {.kind = "batch_norm"}, {.kind = "linear"}};
        Bench plain(job);
        const TrainingReport report = plain.train(0, first(40));
        job.federation.strategy.kind = "fednova";
        Bench normalized(job);
        normalized.train(0, first(40));
        const double progress = local_progress(job.train, report.steps);
        CHECK(progress > report.steps);  // momentum
        std::size_t kept = 0;
        for (const LayerSpec& layer : plain.trainer.schema().layers())
            for (std::size_t j = layer.offset; j < layer.offset + layer.count; ++j) {
                const bool trained = j < layer.offset + layer.trained_count();
                kept += trained ? 0 : 1;
                CHECK(normalized.update[j] ==
                      doctest::Approx(plain.update[j] / (trained ? progress : 1)).epsilon(1e-6).scale(1e-3));
            }
        CHECK(kept == 8);
    }

    TEST_CASE("a loss scale that is a power of two does not show in fp32, nor in the integers of 8 bits") {
        for (const int bits : {32, 8}) {
            CAPTURE(bits);
            Bench plain(small_job());
            plain.plan = PrecisionPlan::uniform(2, bits);
            const TrainingReport expected = plain.train(0, first(100));
            for (const char* kind : {"static", "dynamic"}) {
                Job job = small_job();
                job.train.loss_scale = {.kind = kind, .value = 4096};
                Bench scaled(job);
                scaled.plan = plain.plan;
                CHECK(without_times(scaled.train(0, first(100))) == without_times(expected));
                CHECK(scaled.update == plain.update);
            }
        }
    }

    TEST_CASE("a loss scale that is a power of two does not show in learned ranges") {
        Job job = small_job();
        job.quantize.weights.observer = job.quantize.activations.observer = Observer::lsq;
        Bench plain(job);
        job.train.loss_scale = {.kind = "static", .value = 4096};
        Bench scaled(job);
        plain.plan = scaled.plan = PrecisionPlan::uniform(4, 4);
        plain.train(0, first(100));
        scaled.train(0, first(100));
        CHECK(scaled.update == plain.update);
    }

    TEST_CASE("dynamic loss scaling skips what overflows, recovers, and starts anew with each client") {
        Job job = small_job();
        job.train.loss_scale = {.kind = "dynamic", .value = 1e38};
        job.train.epochs = 4;
        for (const int bits : {32, 8}) {
            CAPTURE(bits);
            Bench bench(job);
            bench.plan = PrecisionPlan::uniform(2, bits);
            for (float& value : bench.model)
                value *= 8;  // large enough weights for the gradients to overflow
            const TrainingReport report = bench.train(3, first(100));
            CHECK(max_magnitude(bench.update) > 0);
            CHECK(report.layers[0].grad_norm > 0);
            const std::vector<float> once = bench.update;
            bench.train(3, first(100));
            CHECK(bench.update == once);
        }
    }

    TEST_CASE("a client whose steps are all skipped has failed, and says at which scale") {
        Job job = small_job();
        job.train.loss_scale = {.kind = "dynamic", .value = 1e38};
        Bench bench(job);
        for (float& value : bench.model)
            value *= 1e10F;  // no scale above 1 will do
        try {
            bench.train(9, first(32));
            FAIL("two steps cannot halve 1e38 far enough");
        } catch (const TrainingError& error) {
            CAPTURE(error.what());
            CHECK(std::string(error.what()).find("client 9, round 1") != std::string::npos);
            CHECK(std::string(error.what()).find("loss scale") != std::string::npos);
        }
    }

    TEST_CASE("without master weights a client ends on the codes of its plan, biases aside") {
        Job job = small_job();
        job.train.master_weights = false;
        Bench bench(job);
        bench.plan = PrecisionPlan::uniform(2, 4);
        bench.train(0, first(100));
        const LayerSpec& layer = bench.trainer.schema().layers()[1];
        const auto columns = static_cast<std::size_t>(layer.tensors[0].shape[1]);
        const auto rows = static_cast<std::size_t>(layer.tensors[0].shape[0]);
        for (std::size_t column = 0; column < columns; ++column) {
            std::vector<float> channel;
            for (std::size_t row = 0; row < rows; ++row) {
                const std::size_t i = layer.offset + row * columns + column;
                channel.push_back(bench.model[i] + bench.update[i]);
            }
            const float step = max_magnitude(channel) / 7;
            for (const float value : channel)
                CHECK(std::abs(value / step - std::round(value / step)) < 1e-4);
        }
        Bench again(job);
        again.plan = bench.plan;
        again.train(0, first(100));
        CHECK(again.update == bench.update);
    }

    TEST_CASE("without master weights training still brings the loss down") {
        Job job = small_job();
        job.train.master_weights = false;
        Bench once(job);
        once.plan = PrecisionPlan::uniform(2, 8);
        const double early = once.train(0, first(200)).train_loss;
        job.train.epochs = 20;
        Bench often(job);
        often.plan = once.plan;
        CHECK(often.train(0, first(200)).train_loss < 0.6 * early);
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

    TEST_CASE("noise that imitates rounding is the same whoever was trained before") {
        for (const char* kind : {"differential", "naive", "dither", "none"})
            for (const int bits : {32, 4}) {
                CAPTURE(kind);
                CAPTURE(bits);
                Job job = small_job();
                job.train.epochs = 2;
                Bench quiet(job);
                job.noise = {.kind = kind, .drop_in = 0.5, .calibration = 50};
                Bench fresh(job);
                Bench used(job);
                quiet.plan = fresh.plan = used.plan = PrecisionPlan::uniform(2, bits);
                quiet.train(7, first(100));
                fresh.train(7, first(100));
                used.train(3, first(200));
                used.train(7, first(100));
                CHECK(fresh.update == used.update);
                CHECK(fresh.update != quiet.update);
            }
    }

    TEST_CASE("noise waits for the end of the warm-up") {
        Job job = small_job();
        Bench quiet(job);
        job.noise = {.kind = "differential", .drop_in = 0.5, .calibration = 50, .warmup_rounds = 1};
        Bench warming(job);
        job.noise.warmup_rounds = 0.5;  // within the round
        Bench warm(job);
        for (Bench* bench : {&quiet, &warming, &warm})
            bench->train(7, first(100));
        CHECK(warming.update == quiet.update);
        CHECK(warm.update != quiet.update);
    }

    TEST_CASE("a client with fewer samples than the calibration set is named") {
        Job job = small_job();
        job.noise = {.kind = "differential"};
        Bench bench(job);
        CHECK_THROWS_WITH_AS(bench.train(9, first(99)), doctest::Contains("client 9 has 99"), InputError);
        CHECK_NOTHROW(bench.train(9, first(100)));
    }
}
