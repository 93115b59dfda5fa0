// One batch whose loss and gradients PyTorch computed in double precision (make_steps.py says how).
#pragma once

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "core/data/dataset.hpp"
#include "core/error.hpp"
#include "core/model/loss.hpp"
#include "core/model/model.hpp"
#include "core/vector_math.hpp"
#include "tests/golden/formulas.hpp"

namespace dither {

struct GoldenStep {
    nlohmann::json expected;
    Batch batch;

    explicit GoldenStep(const std::string& file) : expected(nlohmann::json::parse(std::ifstream(file))) {
        const int size = expected["batch"];
        const auto sample = expected["sample"].get<std::vector<std::int64_t>>();
        batch.inputs.resize(Shape{size, sample[0], sample[1], sample[2]});
        golden::fill_slow_wave(batch.inputs.values());
        for (int i = 0; i < size; ++i)
            batch.targets.labels.push_back(i % 10);
    }

    std::string model() const { return expected["model"]; }

    void fill_parameters(Model& model) const {
        std::size_t index = 0;
        for (const LayerSpec& layer : model.schema().layers()) {
            const double scale = expected["layers"][index++]["scale"];
            for (const TensorSpec& tensor : layer.tensors) {
                const bool is_factor = tensor.shape.rank() == 1 && tensor.name != "bias" && tensor.name != "mean";
                const auto count = static_cast<std::size_t>(tensor.shape.count());
                golden::fill_wave(model.parameters().subspan(tensor.offset, count), tensor.offset, scale,
                                  is_factor ? 1 : 0);
            }
        }
    }

    /// Runs the step and returns the largest deviation from PyTorch: of the loss, and of each layer's gradients
    /// relative to the layer's gradient norm.
    double deviation(Model& model, const Loss& loss) const {
        fill_parameters(model);
        const Pass pass{.training = true};
        const Tensor output = model.forward(batch.inputs, pass);
        Tensor gradient(output.shape());
        const double value = loss.evaluate(output, batch.targets, &gradient).mean_loss();
        model.backward(std::move(gradient), pass);
        double worst = std::abs(value - expected["loss"].get<double>());
        for (std::size_t i = 0; i < model.schema().layer_count(); ++i) {
            const auto& layer = expected["layers"][i];
            require(layer["name"] == model.schema().layers()[i].name, "layer {} is {}", i,
                    model.schema().layers()[i].name);
            const auto actual = model.schema().slice(std::span<const float>(model.gradients()), i);
            const double norm = layer["norm"];
            worst = std::max(worst, std::abs(std::sqrt(squared_norm(actual)) - norm) / norm);
            for (const auto& sample : layer["samples"])
                worst =
                    std::max(worst, std::abs(actual[sample[0].get<std::size_t>()] - sample[1].get<double>()) / norm);
        }
        return worst;
    }
};

}  // namespace dither
