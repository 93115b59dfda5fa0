#include "core/config.hpp"
#include "core/error.hpp"
#include "core/model/model.hpp"

#include <doctest/doctest.h>

#include <algorithm>

namespace dither {
namespace {

const Backend& backend() {
    static const auto backend = make_backend({});
    return *backend;
}

Job job_of(const std::string& toml) {
    return parse_job(toml, "job.toml");
}

std::unique_ptr<Model> model_of(const std::string& toml, const Shape& sample = {1, 8, 8, 3}) {
    return make_model(job_of(toml).model, {}, {.sample = sample, .outputs = 10, .max_batch = 4}, backend());
}

std::string error_of(const std::string& toml) {
    try {
        model_of(toml);
    } catch (const InputError& error) {
        return error.what();
    }
    FAIL("expected an InputError from " << toml);
    return {};
}

/// Every kind of layer.
const std::string kEverything = R"(
[model]
norm_statistics = "local"
[[model.layers]]
kind = "conv2d"
channels = 8
bias = false
[[model.layers]]
kind = "batch_norm"
[[model.layers]]
kind = "relu"
[[model.layers]]
kind = "residual"
body = [{ kind = "conv2d", channels = 12, stride = 2 }, { kind = "group_norm", groups = 3 }, { kind = "relu6" }]
shortcut = [{ kind = "conv2d", channels = 12, kernel = 1, stride = 2 }]
[[model.layers]]
kind = "conv2d"
channels = 12
groups = 12
[[model.layers]]
kind = "max_pool"
[[model.layers]]
kind = "hard_tanh"
[[model.layers]]
kind = "avg_pool"
kernel = 1
[[model.layers]]
kind = "residual"
body = [{ kind = "tanh" }]
[[model.layers]]
kind = "global_pool"
[[model.layers]]
kind = "dropout"
rate = 0.25
[[model.layers]]
kind = "linear"
)";

TEST_SUITE("core/model/described") {
    TEST_CASE("layers in the job file make a model, and its name need not be given") {
        CHECK(job_of(kEverything).model.name == "layers");
        const auto model = model_of(kEverything);
        std::vector<std::string> names;
        for (const LayerSpec& layer : model->schema().layers())
            names.push_back(layer.name);
        CHECK(names == std::vector<std::string>{"conv1", "bn1", "conv2", "gn1", "conv3", "conv4", "fc1"});
        CHECK(model->schema().layers()[0].tensors.size() == 1);
        CHECK(model->schema().layers()[5].tensors[0].shape == Shape({3, 3, 1, 12}));
        model->initialize(1);
        CHECK(model->forward(Tensor(Shape{4, 8, 8, 3}), {.training = true}).shape() == Shape({4, 10}));
    }

    TEST_CASE("what is not given follows from the rest") {
        const auto layers = job_of(
                                "model.layers = [{ kind = \"conv2d\", channels = 4, kernel = 5 }, "
                                "{ kind = \"max_pool\", kernel = 3 }, { kind = \"linear\" }]")
                                .model.layers;
        CHECK(layers[0].padding == 2);
        CHECK(layers[0].stride == 1);
        CHECK(layers[0].bias);
        CHECK(layers[1].stride == 3);
        CHECK(layers[1].padding == 0);
        CHECK(layers[2].outputs == 0);
    }

    TEST_CASE("the resolved file reads back as the same layers, and the identity of a job depends on them") {
        const Job job = job_of(kEverything);
        const std::string resolved = to_toml(job);
        CHECK(job_of(resolved).model.layers == job.model.layers);
        CHECK(to_toml(job_of(resolved)) == resolved);
        Job other = job;
        other.model.layers[3].body[0].kernel = 1;
        CHECK(identity(other) != identity(job));
        CHECK(identity(job_of(resolved)) == identity(job));
    }

    TEST_CASE("an error names the layer's place, the line and what was expected") {
        CHECK(error_of("[[model.layers]]\nkind = \"conv2d\"\nchannels = 4\nkernel = 0") ==
              "job.toml:4:10: model.layers[0].kernel: expected an integer, 1 .. 255, found 0");
        CHECK(error_of("[[model.layers]]\nkind = \"linear\"\n[[model.layers]]\nkind = \"conv2d\"\nkernal = 3") ==
              "job.toml:5:1: unknown key model.layers[1].kernal; the nearest known one of a conv2d layer is kernel");
        CHECK(
            error_of("[[model.layers]]\nkind = \"residual\"\nbody = [{ kind = \"relu\" }, { kind = \"dropout\", rate = "
                     "1 }]")
                .starts_with("job.toml:3:"));
        CHECK(
            error_of("[[model.layers]]\nkind = \"residual\"\nbody = [{ kind = \"relu\" }, { kind = \"dropout\", rate = "
                     "1 }]")
                .ends_with("model.layers[0].body[1].rate: expected a number >= 0 and < 1, found 1"));
        CHECK(error_of("[[model.layers]]\nkind = \"conv\"")
                  .starts_with("job.toml:2:8: model.layers[0].kind: expected one of \"linear\", \"conv2d\""));
        CHECK(error_of("[[model.layers]]\nchannels = 3").find("model.layers[0].kind: expected one of") !=
              std::string::npos);
        CHECK(error_of("[[model.layers]]\nkind = \"conv2d\"")
                  .ends_with("model.layers[0]: a conv2d layer needs the key channels"));
        CHECK(error_of("model.layers = 3") ==
              "job.toml:1:16: model.layers: expected a list of tables, one for each layer, found 3");
        CHECK(error_of("[[model.layers]]\nkind = \"residual\"\nbody = []")
                  .ends_with("model.layers[0].body: expected a list of at least one layer, found []"));
    }

    TEST_CASE("layers that do not fit together are an error that names the place and the shape") {
        CHECK(error_of("[[model.layers]]\nkind = \"global_pool\"\n[[model.layers]]\nkind = \"max_pool\"")
                  .starts_with("model.layers[1] (max_pool) takes [1, 3]: "));
        CHECK(error_of("[[model.layers]]\nkind = \"conv2d\"\nchannels = 4\ngroups = 2")
                  .starts_with("model.layers[0] (conv2d) takes [1, 8, 8, 3]: "));
        CHECK(error_of("[[model.layers]]\nkind = \"linear\"\noutputs = 7") ==
              "model.layers: the last layer gives [1, 7], but the data asks for 10 values a sample");
    }

    TEST_CASE("layers and another model's name exclude each other") {
        CHECK(error_of("[model]\nname = \"cnn2\"\nlayers = [{ kind = \"linear\" }]").find("model.name = \"cnn2\"") !=
              std::string::npos);
        CHECK(error_of("[model]\nname = \"layers\"").find("model.layers = []") != std::string::npos);
    }

    TEST_CASE("the help lists every kind of layer with its keys and defaults") {
        const std::string help = describe_options();
        for (const char* text : {"conv2d: ", "channels: output channels",
                                 "kernel = 3: ", "rate = 0.5: ", "residual: ", "model.norm_statistics = \"shared\""})
            CHECK(help.find(text) != std::string::npos);
    }
}

}  // namespace
}  // namespace dither
