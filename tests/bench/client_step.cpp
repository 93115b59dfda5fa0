// One training step of CNN-2, batch 32, on one core: gather, forward, loss, backward, optimizer. The network's loss and
// gradients are compared with PyTorch's before anything is timed, and the quantized ones with their own fp32.
#include <benchmark/benchmark.h>

#include <numeric>

#include "core/config.hpp"
#include "node/trainer.hpp"
#include "tests/bench/made_up_images.hpp"
#include "tests/golden/golden_step.hpp"

namespace dither {
namespace {

constexpr std::uint32_t kSamples = 640;  // 20 whole batches

std::string check_network(const Backend& backend) {
    const GoldenStep golden(DITHER_GOLDEN_DIR "/cnn2_step.json");
    const ModelInput input{.sample = Shape{1, 28, 28, 1}, .outputs = 10, .max_batch = 32};
    const auto model = make_model(ModelOptions{}, QuantizeOptions{}, input, backend);
    const double deviation = golden.deviation(*model, *make_loss("cross_entropy"));
    return deviation < 1e-4 ? "" : fmt::format("deviates from PyTorch by {}", deviation);
}

struct Bench {
    Dataset data = made_up_images(kSamples);
    Job job;
    std::unique_ptr<Backend> backend = make_backend(job.compute);
    Trainer trainer{job, data, *backend};
    std::vector<std::uint32_t> indices = std::vector<std::uint32_t>(kSamples);
    std::vector<float> model = std::vector<float>(trainer.schema().parameters());
    std::vector<float> update = std::vector<float>(model.size());

    explicit Bench(const Job& wanted) : job(wanted) {
        std::iota(indices.begin(), indices.end(), 0U);
        const auto fresh = make_model(job.model, job.quantize,
                                      {.sample = data.sample_shape(), .outputs = 10, .max_batch = 32}, *backend);
        fresh->initialize(1);
        std::copy(fresh->parameters().begin(), fresh->parameters().end(), model.begin());
    }

    double train(const PrecisionPlan& plan) {
        return trainer.train({.client = 0, .round = 1, .plan = &plan}, indices, model, update).train_loss;
    }
};

void client_step(benchmark::State& state, int forward, int backward, const char* noise) {
    Job job;
    job.noise.kind = noise;
    Bench bench(job);
    PrecisionPlan plan = PrecisionPlan::uniform(bench.trainer.schema().layer_count(), forward);
    for (LayerBits& bits : plan.layers)
        bits.backward = backward;
    if (const std::string wrong = check_network(*bench.backend); !wrong.empty())
        return state.SkipWithError(wrong.c_str());
    const double reference = bench.train(PrecisionPlan::uniform(plan.layers.size(), 32));
    if (const double loss = bench.train(plan); std::abs(loss - reference) > 0.25 * reference)
        return state.SkipWithError("the quantized training loss is far from the fp32 one");
    for (auto _ : state)
        benchmark::DoNotOptimize(bench.train(plan));
    state.SetItemsProcessed(state.iterations() * kSamples);
}

BENCHMARK_CAPTURE(client_step, fp32, 32, 32, "none")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(client_step, fp32_xi, 32, 32, "xi")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(client_step, int8, 8, 8, "none")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(client_step, int8_4_xi, 8, 4, "xi")->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace dither
