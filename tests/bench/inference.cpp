// Inference of a batch of 32, on one core: the fp32 forward pass of the model, and the integer network that it converts
// to. The outputs of the network are compared with the quantized forward pass, bit by bit, before anything is timed.
#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "core/inference/integer_network.hpp"
#include "core/model/calibrate.hpp"
#include "core/model/model.hpp"

namespace dither {
namespace {

constexpr std::int64_t kBatch = 32;

struct Inference {
    explicit Inference(const std::string& name)
        : sample(name == "cnn2" ? Shape{1, 28, 28, 1} : Shape{1, 32, 32, 3}),
          model(make_model({.name = name}, {}, {.sample = sample, .outputs = 10, .max_batch = kBatch}, *backend)),
          plan(PrecisionPlan::uniform(model->schema().layer_count(), 8)),
          x(sample.with_batch(kBatch)) {
        model->initialize(1);
        Stream({.seed = 2}).fill_normal(x.values());
        const std::vector<float> values(x.values().begin(), x.values().end());
        const Dataset data(sample, values, std::vector<std::int32_t>(kBatch), 10, std::vector<float>(), 10);
        std::vector<std::uint32_t> indices(kBatch);
        std::iota(indices.begin(), indices.end(), 0U);
        calibrate(*model, data, indices, plan);
        network = std::make_unique<IntegerNetwork>(convert(*model, plan), kBatch);
    }

    bool is_exact() {
        const Tensor expected = model->forward(x, {.plan = &plan, .keep = false});
        const Tensor& found = network->run(x);
        return found.shape() == expected.shape() &&
               std::memcmp(found.data(), expected.data(), expected.values().size_bytes()) == 0;
    }

    std::unique_ptr<Backend> backend = make_backend({});
    Shape sample;
    std::unique_ptr<Model> model;
    PrecisionPlan plan;
    Tensor x;
    std::unique_ptr<IntegerNetwork> network;
};

void inference(benchmark::State& state, const char* name, bool integer) {
    Inference run(name);
    if (!run.is_exact())
        return state.SkipWithError("the integer network differs from the quantized forward pass");
    const Pass fp32{.keep = false};
    for (auto _ : state) {
        if (integer)
            benchmark::DoNotOptimize(run.network->run(run.x).data());
        else
            benchmark::DoNotOptimize(run.model->forward(run.x, fp32).data());
    }
    state.SetItemsProcessed(state.iterations() * kBatch);
}

BENCHMARK_CAPTURE(inference, resnet8_fp32, "resnet8", false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(inference, resnet8_w8a8, "resnet8", true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(inference, cnn2_fp32, "cnn2", false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(inference, cnn2_w8a8, "cnn2", true)->Unit(benchmark::kMillisecond);

BENCHMARK_CAPTURE(inference, cnn4_fp32, "cnn4", false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(inference, cnn4_w8a8, "cnn4", true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(inference, mobilenet_fp32, "mobilenet", false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(inference, mobilenet_w8a8, "mobilenet", true)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace dither
