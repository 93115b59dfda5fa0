// Small networks, trained for some steps in fp32 on a made-up data set that can be learnt: ten prototypes of 8x8 pixels
// and two channels, with noise on the pixels and on the labels.
#pragma once

#include "core/compute/backend.hpp"
#include "core/config.hpp"
#include "core/model/loss.hpp"
#include "core/model/model.hpp"
#include "core/optim/optimizer.hpp"

#include <memory>
#include <vector>

namespace dither {

struct SmallNetwork {
    /// mlp: 2 linear layers. cnn2: 2 convolutions and 2 linear layers. batch_norm: 2 convolutions with batch norm in a
    /// residual block, and a linear layer.
    static constexpr const char* kNames[] = {"mlp", "cnn2", "batch_norm"};
    static constexpr std::int64_t kBatch = 32;
    static constexpr int kClasses = 10;

    SmallNetwork(std::string_view name, std::uint32_t seed, const QuantizeOptions& quantize = {}, int steps = 60)
        : seed_(seed), backend(make_backend({})), loss(make_loss("cross_entropy")) {
        model = make_model(options_of(name), quantize, {.sample = kSample, .outputs = kClasses, .max_batch = kBatch},
                           *backend);
        model->initialize(seed);
        optimizer = make_optimizer({.kind = "sgd", .lr = 0.05, .momentum = 0.9}, schema());
        prototypes_.resize(static_cast<std::size_t>(kClasses * kSample.count()));
        Stream({.seed = seed, .purpose = Purpose::test}).fill_normal(prototypes_);
        const PrecisionPlan full = PrecisionPlan::uniform(schema().layer_count(), kFullBits);
        for (int i = 0; i < steps; ++i)
            step(full, static_cast<std::uint32_t>(i));
    }

    const Schema& schema() const { return model->schema(); }

    /// One training step on a batch of its own.
    void step(const PrecisionPlan& plan, std::uint32_t number) {
        const Batch samples = batch(1000 + number);
        const StreamKey key{.seed = seed_, .client = 1, .round = 1, .step = number};
        gradient(samples, {.plan = &plan, .key = key, .training = true});
        optimizer->step(model->parameters(), model->gradients(), &plan, key);
    }

    void gradient(const Batch& samples, const Pass& pass) {
        const Tensor output = model->forward(samples.inputs, pass);
        Tensor of_output(output.shape(), &model->arena());
        loss->evaluate(output, samples.targets, &of_output);
        model->backward(std::move(of_output), pass);
    }

    /// Always the same for the same number.
    Batch batch(std::uint32_t number) const {
        Batch samples;
        samples.inputs.resize(kSample.with_batch(kBatch));
        Stream stream({.seed = seed_, .purpose = Purpose::test, .step = number, .lane = 1});
        stream.fill_normal(samples.inputs.values());
        const auto item = static_cast<std::size_t>(kSample.count());
        for (std::int64_t i = 0; i < kBatch; ++i) {
            const std::uint32_t label = stream.below(kClasses);
            const bool wrong = stream.uniform() < kWrong;
            samples.targets.labels.push_back(static_cast<std::int32_t>(wrong ? stream.below(kClasses) : label));
            for (std::size_t k = 0; k < item; ++k) {
                float& value = samples.inputs.item(i)[k];
                value = std::max(kNoise * value + prototypes_[label * item + k], 0.0F);
            }
        }
        return samples;
    }

    static ModelOptions options_of(std::string_view name) {
        ModelOptions options{.name = std::string(name), .hidden = {32}};
        if (name != "batch_norm")
            return options;
        const LayerOptions conv{.kind = "conv2d", .channels = 8, .kernel = 3, .stride = 1, .padding = 1, .groups = 1};
        options.name = "layers";
        options.layers = {conv, {.kind = "batch_norm"}, {.kind = "relu"}};
        options.layers.push_back({.kind = "residual", .body = {conv, {.kind = "batch_norm"}}});
        options.layers.push_back({.kind = "relu"});
        options.layers.push_back({.kind = "linear"});
        return options;
    }

    static constexpr float kNoise = 1.5F;
    static constexpr float kWrong = 0.2F;  ///< share of labels drawn at random, so that gradients do not end
    inline static const Shape kSample{1, 8, 8, 2};

    std::uint32_t seed_;
    std::vector<float> prototypes_;
    std::unique_ptr<Backend> backend;
    std::unique_ptr<Loss> loss;
    std::unique_ptr<Model> model;
    std::unique_ptr<Optimizer> optimizer;
};

}  // namespace dither
