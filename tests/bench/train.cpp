// Local training of one client on made-up images in a process of its own: speed, and memory as the system and as the
// arena count it. One JSON line; scripts run it in turns with peers and compare.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/config.hpp"
#include "node/trainer.hpp"
#include "tests/bench/made_up_images.hpp"

namespace dither {
namespace {

struct Wanted {
    std::string model = "cnn2";
    std::string backend = "auto";
    std::string execution = "integer";
    int forward = 8;
    int backward = 8;
    int optimizer = 32;
    std::uint32_t batch = 32;
    std::uint32_t steps = 60;
};

double resident_mib() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_maxrss) / 1024;
}

nlohmann::json measure(const Wanted& wanted) {
    Job job;
    job.model.name = wanted.model;
    job.compute.backend = wanted.backend;
    job.train.batch_size = wanted.batch;
    job.quantize.execution = wanted.execution == "simulated" ? Execution::simulated : Execution::integer;
    const bool grey = wanted.model != "resnet8";
    const std::uint32_t count = wanted.batch * wanted.steps;
    const Dataset data = made_up_images(std::min(count, 640U), grey ? Shape{1, 28, 28, 1} : Shape{1, 32, 32, 3});
    const auto backend = make_backend(job.compute);
    Trainer trainer(job, data, *backend);
    const auto fresh = make_model(job.model, job.quantize,
                                  {.sample = data.sample_shape(), .outputs = 10, .max_batch = wanted.batch}, *backend);
    fresh->initialize(1);
    const std::vector<float> model(fresh->parameters().begin(), fresh->parameters().end());
    std::vector<float> update(model.size());
    PrecisionPlan plan = PrecisionPlan::uniform(trainer.schema().layer_count(), 32);
    for (LayerBits& bits : plan.layers) {
        bits.forward = wanted.forward;
        bits.backward = wanted.backward;
        bits.optimizer = wanted.optimizer;
    }
    std::vector<std::uint32_t> indices(count);
    for (std::uint32_t i = 0; i < count; ++i)
        indices[i] = i % static_cast<std::uint32_t>(data.size());
    const double before = resident_mib();
    const TrainingTask task{.round = 1, .plan = &plan};
    trainer.train(task, std::span(indices).first(wanted.batch), model, update);  // plans the buffers
    const auto start = std::chrono::steady_clock::now();
    const TrainingReport report = trainer.train(task, indices, model, update);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    return {{"model", wanted.model},
            {"backend", backend->name()},
            {"instruction_set", backend->instruction_set()},
            {"forward", wanted.forward},
            {"backward", wanted.backward},
            {"batch", wanted.batch},
            {"steps", wanted.steps},
            {"samples_per_s", std::round(count / seconds.count())},
            {"train_loss", report.train_loss},
            {"activations_mib", static_cast<double>(trainer.activation_bytes()) / (1 << 20)},
            {"resident_mib", resident_mib()},
            {"resident_before_mib", before}};
}

}  // namespace
}  // namespace dither

int main(int argc, char** argv) {
    CLI::App app("Trains one client on made-up images (28x28x1; resnet8: 32x32x3) and prints one JSON line.");
    dither::Wanted wanted;
    app.add_option("--model", wanted.model, "a model of the zoo")->capture_default_str();
    app.add_option("--backend", wanted.backend, "as compute.backend")->capture_default_str();
    app.add_option("--execution", wanted.execution, "as quantize.execution")->capture_default_str();
    app.add_option("--forward", wanted.forward, "bits of the forward pass")->capture_default_str();
    app.add_option("--backward", wanted.backward, "bits of the backward pass")->capture_default_str();
    app.add_option("--optimizer", wanted.optimizer, "bits of the optimizer's state")->capture_default_str();
    app.add_option("--batch", wanted.batch, "samples a step")->capture_default_str();
    app.add_option("--steps", wanted.steps, "steps that are timed")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        std::cout << dither::measure(wanted).dump() << '\n';
    } catch (const std::exception& error) {
        std::cerr << "dither-bench-train: " << error.what() << '\n';
        return 1;
    }
}
