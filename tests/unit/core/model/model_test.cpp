#include "core/model/model.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/model/loss.hpp"
#include "tests/unit/allocation_counter.hpp"
#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <new>
#include <numeric>

namespace dither {
namespace {

using testing::random_tensor;

const Backend& backend() {
    static const auto backend = make_backend({});
    return *backend;
}

std::unique_ptr<Model> model_of(const std::string& name, const Shape& sample, std::int64_t max_batch,
                                std::vector<std::int64_t> hidden = {128}, const Backend& with = backend()) {
    const ModelOptions options{.name = name, .hidden = std::move(hidden)};
    auto model = make_model(options, {}, {.sample = sample, .outputs = 10, .max_batch = max_batch}, with);
    model->initialize(1);
    return model;
}

Targets cyclic_labels(std::int64_t batch) {
    Targets targets;
    for (std::int64_t i = 0; i < batch; ++i)
        targets.labels.push_back(static_cast<std::int32_t>(i % 10));
    return targets;
}

/// One model, one batch of random samples, and plain gradient descent on them.
struct Session {
    Session(const std::string& name, const Shape& sample, std::int64_t batch, const Backend& with = backend())
        : model(model_of(name, sample, batch, {128}, with)), x(random_tensor(sample.with_batch(batch), 1)) {
        targets = cyclic_labels(batch);
    }

    double gradient(const Pass& pass) {
        const Tensor output = model->forward(x, pass);
        Tensor output_gradient(output.shape(), &model->arena());
        const Score score = loss->evaluate(output, targets, &output_gradient);
        model->backward(std::move(output_gradient), pass);
        return score.mean_loss();
    }
    double step(Pass& pass, float rate) {
        ++pass.key.step;
        const double value = gradient(pass);
        for (std::size_t i = 0; i < model->parameters().size(); ++i)
            model->parameters()[i] -= rate * model->gradients()[i];
        return value;
    }

    std::unique_ptr<Model> model;
    std::unique_ptr<Loss> loss = make_loss("cross_entropy");
    Tensor x;
    Targets targets;
};

TEST_SUITE("core/model/model") {
    TEST_CASE("the schema says how many values of a sample each layer keeps for its backward pass") {
        const auto inputs_of = [](const Model& model) {
            std::vector<std::pair<std::string, double>> inputs;
            for (const LayerSpec& layer : model.schema().layers())
                inputs.emplace_back(layer.name, layer.inputs);
            return inputs;
        };
        const auto mlp = inputs_of(*model_of("mlp", {1, 20}, 2, {30}));
        CHECK(mlp == std::vector<std::pair<std::string, double>>{{"fc1", 20}, {"fc2", 30}});
        const auto cnn4 = inputs_of(*model_of("cnn4", {1, 28, 28, 1}, 2));
        CHECK(cnn4.front() == std::pair<std::string, double>{"conv1", 28 * 28});
        for (const auto& [name, inputs] : inputs_of(*model_of("resnet8", {1, 32, 32, 3}, 2)))
            CHECK(inputs > 0);
    }

    TEST_CASE("cnn2 has two convolutions and two linear layers, adjacent in one flat vector") {
        const auto model = model_of("cnn2", {1, 28, 28, 1}, 2);
        const auto layers = model->schema().layers();
        REQUIRE(layers.size() == 4);
        const std::array names{"conv1", "conv2", "fc1", "fc2"};
        const std::array<std::size_t, 4> counts{160, 4640, 200832, 1290};
        const std::array macs{112896.0, 903168.0, 200704.0, 1280.0};
        std::size_t offset = 0;
        for (std::size_t i = 0; i < 4; ++i) {
            CHECK(layers[i].name == names[i]);
            CHECK(layers[i].count == counts[i]);
            CHECK(layers[i].macs == macs[i]);
            CHECK(layers[i].offset == offset);
            CHECK(layers[i].tensors[0].name == "weight");
            CHECK(layers[i].tensors[1].name == "bias");
            offset += layers[i].count;
        }
        CHECK(model->schema().parameters() == 206922);
        CHECK(layers[1].tensors[0].shape == Shape({3, 3, 16, 32}));
        CHECK(model->schema().slice(model->parameters(), 3).size() == 1290);
    }

    TEST_CASE("mlp has the hidden layers of the job, linear none") {
        const auto mlp = model_of("mlp", {1, 4, 4, 1}, 2, {7, 5});
        REQUIRE(mlp->schema().layer_count() == 3);
        CHECK(mlp->schema().layers()[1].tensors[0].shape == Shape({7, 5}));
        const auto linear = model_of("linear", {1, 6}, 2);
        REQUIRE(linear->schema().layer_count() == 1);
        CHECK(linear->schema().layers()[0].name == "fc1");
        CHECK(linear->forward(random_tensor({2, 6}, 1), {}).shape() == Shape({2, 10}));
    }

    TEST_CASE("a model that does not exist or does not fit the data is refused with what was given") {
        CHECK_THROWS_WITH_AS(
            model_of("cnn3", {1, 28, 28, 1}, 2),
            R"(model.name: expected one of "linear", "mlp", "cnn2", "cnn4", "resnet8", "mobilenet", "layers", found "cnn3")",
            InputError);
        CHECK_THROWS_WITH_AS(model_of("cnn2", {1, 28, 30, 1}, 2), doctest::Contains("[1, 28, 30, 1]"), InputError);
        CHECK_THROWS_AS(model_of("cnn2", {1, 784}, 2), InputError);
        CHECK_THROWS_AS(model_of("mlp", {1, 784}, 2, {0}), InputError);
    }

    TEST_CASE("parameters start uniform in +-1/sqrt(fan_in), the same for the same seed") {
        auto model = model_of("mlp", {1, 100}, 2, {50});
        const std::span<const float> weights = model->schema().slice(model->parameters(), 0);
        double squares = 0;
        for (const float value : weights) {
            CHECK(std::fabs(value) <= 0.1F);
            squares += static_cast<double>(value) * value;
        }
        CHECK(squares / static_cast<double>(weights.size()) == doctest::Approx(0.01 / 3).epsilon(0.05));
        const std::vector<float> first(model->parameters().begin(), model->parameters().end());
        model->initialize(2);
        CHECK_FALSE(std::ranges::equal(first, model->parameters()));
        model->initialize(1);
        CHECK(std::ranges::equal(first, model->parameters()));
    }

    TEST_CASE("the gradient of every layer of every model agrees with central differences along random directions") {
        for (const char* name : {"linear", "mlp", "cnn2"}) {
            Session s(name, {1, 8, 8, 1}, 4);
            s.gradient({});
            for (std::size_t layer = 0; layer < s.model->schema().layer_count(); ++layer) {
                CAPTURE(name);
                CAPTURE(layer);
                const auto part = s.model->schema().slice(s.model->parameters(), layer);
                const auto gradient = s.model->schema().slice(s.model->gradients(), layer);
                const std::vector<float> start(part.begin(), part.end());
                // Towards the gradient and a little aside: a derivative that is not lost in rounding.
                Tensor direction = random_tensor({static_cast<std::int64_t>(part.size())}, 3);
                const double norm =
                    std::sqrt(std::inner_product(gradient.begin(), gradient.end(), gradient.begin(), 0.0));
                double slope = 0;
                for (std::size_t i = 0; i < part.size(); ++i) {
                    direction.data()[i] = gradient[i] / static_cast<float>(norm) + 0.01F * direction.data()[i];
                    slope += static_cast<double>(direction.data()[i]) * gradient[i];
                }
                float t = 0;
                const auto analytic = static_cast<float>(slope);
                const double error = testing::worst_gradient_error({&t, 1}, {&analytic, 1}, 2e-3F, [&] {
                    for (std::size_t i = 0; i < part.size(); ++i)
                        part[i] = start[i] + t * direction.data()[i];
                    return s.loss->evaluate(s.model->forward(s.x, {}), s.targets, nullptr).mean_loss();
                });
                CHECK(error < 0.01);
                std::ranges::copy(start, part.begin());
            }
        }
    }

    TEST_CASE("gradient descent learns a batch by heart at 32 bits and at 8") {
        for (const int bits : {32, 8}) {
            CAPTURE(bits);
            Session s("cnn2", {1, 8, 8, 1}, 10);
            const PrecisionPlan plan = PrecisionPlan::uniform(4, bits);
            Pass pass{.plan = &plan, .training = true};
            const double first = s.step(pass, 0.2F);
            for (int i = 0; i < 150; ++i)
                s.step(pass, 0.2F);
            CHECK(first == doctest::Approx(std::log(10.0)).epsilon(0.1));
            CHECK(s.gradient(pass) < 0.1 * first);
        }
    }

    TEST_CASE("allocations are counted, aligned ones and an arena's too") {
        if (!kCountsAllocations) {
            MESSAGE("skipped: the allocator cannot be counted here");
            return;
        }
        const auto counts = [](const auto& allocate) {
            const std::size_t before = allocations;
            allocate();
            return allocations > before;
        };
        CHECK(counts([] { ::operator delete(::operator new(100)); }));
        CHECK(counts([] { ::operator delete (::operator new (100, std::align_val_t{64}), std::align_val_t{64}); }));
        CHECK(counts([] { Tensor({2, 3}).data()[0] = 1; }));
        CHECK(counts([] {
            Arena arena;
            arena.give(arena.take(100), 100);
        }));
    }

    TEST_CASE("a training step allocates nothing after the first one") {
        if (!kCountsAllocations) {
            MESSAGE("skipped: the allocator cannot be counted here");
            return;
        }
        const auto eigen = make_backend({.backend = "eigen"});
        struct Case {
            const char* model;
            Shape sample;
            std::int64_t batch;
        };
        for (const Case& c : {Case{"cnn2", {1, 28, 28, 1}, 32}, Case{"cnn4", {1, 28, 28, 1}, 8},
                              Case{"resnet8", {1, 32, 32, 3}, 8}, Case{"mobilenet", {1, 32, 32, 3}, 8}})
            for (const auto& [forward, backward] : {std::pair{32, 32}, {8, 8}, {8, 4}, {32, 8}}) {
                CAPTURE(c.model);
                CAPTURE(forward);
                CAPTURE(backward);
                Session s(c.model, c.sample, c.batch, *eigen);
                PrecisionPlan plan = PrecisionPlan::uniform(s.model->schema().layer_count(), forward);
                for (LayerBits& layer : plan.layers)
                    layer.backward = backward;
                Pass pass{.plan = &plan, .training = true, .measure = true};
                s.step(pass, 0.01F);
                const std::size_t after_first = allocations;
                s.step(pass, 0.01F);
                s.step(pass, 0.01F);
                const std::size_t after_third = allocations;
                CHECK(after_third == after_first);
            }
    }

    TEST_CASE("a short batch gives each sample the output that it has in a full one") {
        const auto model = model_of("cnn2", {1, 8, 8, 1}, 4);
        const Tensor full = random_tensor({4, 8, 8, 1}, 1);
        const Tensor expected = model->forward(full, {});
        Tensor part({1, 8, 8, 1});
        std::ranges::copy(full.item(2), part.data());
        const Tensor& output = model->forward(part, {});
        REQUIRE(output.shape() == Shape({1, 10}));
        for (std::size_t i = 0; i < 10; ++i)
            CHECK(output.values()[i] == doctest::Approx(expected.item(2)[i]).epsilon(1e-4));
    }

    TEST_CASE("each layer reports what it measured since the last reset") {
        Session s("cnn2", {1, 8, 8, 1}, 4);
        const PrecisionPlan plan = PrecisionPlan::uniform(4, 8);
        std::vector<LayerStatistics> statistics(4);
        s.gradient({.plan = &plan, .training = true, .measure = true});
        s.model->report(statistics);
        for (const LayerStatistics& layer : statistics) {
            CHECK(layer.forward_error < 0.03);
            CHECK(layer.backward_error > 0);
            CHECK(layer.saturation >= 0);
            CHECK(layer.grad_norm == kNotMeasured);
        }
        s.model->reset();
        std::vector<LayerStatistics> nothing(4);
        s.model->report(nothing);
        for (const LayerStatistics& layer : nothing)
            CHECK(layer == LayerStatistics{});
    }

    TEST_CASE("batches beyond the planned one and plans of another model are refused") {
        const auto model = model_of("linear", {1, 3}, 2);
        CHECK_THROWS_AS(model->forward(Tensor({3, 3}), {}), PreconditionError);
        const PrecisionPlan empty;
        CHECK_THROWS_AS(model->forward(Tensor({2, 3}), {.plan = &empty}), PreconditionError);
    }
}

}  // namespace
}  // namespace dither
