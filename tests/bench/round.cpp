// A whole federated round in one process with one worker: sampling, downlink, 10 clients' training, uplink, exact sum,
// checkpoint. Before it is timed, the model that it commits is compared with FedAvg computed directly from the trainer.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "aggregator/checkpoint.hpp"
#include "aggregator/sampling.hpp"
#include "aggregator/server.hpp"
#include "core/data/partition.hpp"
#include "node/session.hpp"
#include "node/trainer.hpp"
#include "tests/bench/made_up_images.hpp"
#include "transport/loopback.hpp"

namespace dither {
namespace {

constexpr std::uint32_t kSamples = 6400;

struct Federation {
    Job job;
    Dataset data = made_up_images(kSamples);
    Dataset test = made_up_images(100);
    std::unique_ptr<Backend> backend = make_backend(job.compute);
    std::filesystem::path out = std::filesystem::temp_directory_path() / fmt::format("dither-bench-{}", getpid());
    ModelInput input{.sample = data.sample_shape(), .outputs = 10, .max_batch = 100};

    Federation(const char* policy, const char* codec) {
        job.job.rounds = 1;
        job.federation.clients = 20;
        job.federation.cohort = 10;
        job.precision.policy = policy;
        job.codec.uplink.kind = job.codec.downlink.kind = codec;
    }

    RunResult run() {
        std::filesystem::remove_all(out);
        RunFolder folder(out, false);
        LoopbackHub hub;
        std::jthread worker(
            [channel = hub.connect(), this] { run_session(*channel, {.node = "worker", .data = &data}); });
        RunResult result = run_server(
            {.job = job, .test = test, .input = input, .backend = *backend, .hub = hub, .folder = folder}, false);
        hub.close();
        return result;
    }

    /// FedAvg without hub, frames, codecs or integers, in double precision.
    std::vector<double> reference() {
        ModelInput training = input;
        training.max_batch = job.train.batch_size;
        const auto model = make_model(job.model, job.quantize, training, *backend);
        model->initialize(job.job.seed);
        const std::vector<float> start(model->parameters().begin(), model->parameters().end());
        const auto partition = make_partition(job.federation.partition, job.federation.clients, data, job.job.seed);
        const PrecisionPlan plan = PrecisionPlan::uniform(model->schema().layer_count(), 32);
        Trainer trainer(job, data, *backend);
        std::vector<double> sum(start.size());
        std::vector<float> update(start.size());
        double samples = 0;
        for (const std::uint32_t client :
             sample_uniform(job.federation.clients, job.federation.cohort, job.job.seed, 1)) {
            const auto own = partition.of(client);
            trainer.train({.client = client, .round = 1, .plan = &plan}, own, start, update);
            for (std::size_t i = 0; i < sum.size(); ++i)
                sum[i] += static_cast<double>(own.size()) * update[i];
            samples += static_cast<double>(own.size());
        }
        for (std::size_t i = 0; i < sum.size(); ++i)
            sum[i] = start[i] + sum[i] / samples;
        return sum;
    }

    ~Federation() { std::filesystem::remove_all(out); }
};

void round(benchmark::State& state, const char* policy, const char* codec) {
    Federation federation(policy, codec);
    const std::vector<double> expected = federation.reference();
    federation.run();
    const std::vector<float> model = load_checkpoint(federation.out / "model.dither").model;
    double worst = 0;
    for (std::size_t i = 0; i < model.size(); ++i)
        worst = std::max(worst, std::abs(model[i] - expected[i]));
    // raw differs by the rounding of fp32 only; quantized training and codes by what they are made to lose.
    if (worst > (std::string_view(codec) == "raw" ? 1e-6 : 0.2))
        return state.SkipWithError(fmt::format("deviates from plain FedAvg by {}", worst).c_str());
    for (auto _ : state)
        benchmark::DoNotOptimize(federation.run().model);
    state.SetItemsProcessed(state.iterations() * kSamples / 2);
}

BENCHMARK_CAPTURE(round, fp32_raw, "fp32", "raw")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(round, numgeom_grid, "numgeom", "grid")->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace dither
