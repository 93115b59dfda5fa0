#include "core/compute/eigen_backend.hpp"
#include "core/config.hpp"
#include "core/error.hpp"
#include "core/model/model.hpp"
#include "tests/golden/golden_step.hpp"

#include <doctest/doctest.h>

#include <numeric>

namespace dither {
namespace {

const Backend& backend() {
    static const auto backend = make_backend({});
    return *backend;
}

std::size_t trained_parameters(const Schema& schema) {
    return std::accumulate(schema.layers().begin(), schema.layers().end(), std::size_t{0},
                           [](std::size_t sum, const LayerSpec& layer) { return sum + layer.trained_count(); });
}

std::unique_ptr<Model> model_for(const std::string& name, const Shape& sample,
                                 NormStatistics statistics = NormStatistics::shared) {
    return make_model({.name = name, .norm_statistics = statistics}, {},
                      {.sample = sample, .outputs = 10, .max_batch = 4}, backend());
}

TEST_SUITE("core/model/zoo") {
    TEST_CASE("the models have the published numbers of parameters") {
        CHECK(trained_parameters(model_for("cnn2", {1, 28, 28, 1})->schema()) == 206922);
        CHECK(trained_parameters(model_for("cnn4", {1, 28, 28, 1})->schema()) == 467818);
        CHECK(trained_parameters(model_for("resnet8", {1, 32, 32, 3})->schema()) == 77946);
        CHECK(trained_parameters(model_for("mobilenet", {1, 32, 32, 3})->schema()) == 37162);
    }

    TEST_CASE("shared statistics are part of the model, local ones are not") {
        CHECK(model_for("resnet8", {1, 32, 32, 3})->schema().parameters() == 77946 + 480);
        CHECK(model_for("resnet8", {1, 32, 32, 3}, NormStatistics::frozen)->schema().parameters() == 77946 + 480);
        CHECK(model_for("resnet8", {1, 32, 32, 3}, NormStatistics::local)->schema().parameters() == 77946);
    }

    TEST_CASE("layers are named by kind and ordinal, a block's body before its shortcut") {
        const auto model = model_for("resnet8", {1, 28, 28, 1});
        std::vector<std::string> names;
        for (const LayerSpec& layer : model->schema().layers())
            names.push_back(layer.name);
        CHECK(names == std::vector<std::string>{"conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "conv4", "bn4", "conv5",
                                                "bn5", "conv6", "conv7", "bn6", "conv8", "bn7", "conv9", "fc1"});
        CHECK(model->schema().layers()[10].tensors[0].shape == Shape({1, 1, 16, 32}));
    }

    TEST_CASE("a step of each network gives the loss and the gradients that PyTorch computes") {
        const auto loss = make_loss("cross_entropy");
        for (const char* file : {"cnn2", "cnn4", "resnet8"}) {
            CAPTURE(file);
            const GoldenStep golden(fmt::format("{}/{}_step.json", DITHER_GOLDEN_DIR, file));
            const Shape sample = golden.batch.inputs.shape();
            for (const std::string_view instruction_set : eigen_instruction_sets()) {
                CAPTURE(instruction_set);
                const auto eigen = make_eigen_backend(instruction_set);
                const auto model =
                    make_model({.name = golden.model()}, {},
                               {.sample = sample.with_batch(1), .outputs = 10, .max_batch = sample[0]}, *eigen);
                CHECK(golden.deviation(*model, *loss) < 1e-4);
            }
        }
    }

    TEST_CASE("images that two halvings do not divide are refused") {
        for (const char* name : {"cnn2", "cnn4", "resnet8", "mobilenet"}) {
            CHECK_THROWS_AS(model_for(name, {1, 30, 28, 1}), InputError);
            CHECK_THROWS_AS(model_for(name, {1, 784}), InputError);
        }
    }
}

}  // namespace
}  // namespace dither
