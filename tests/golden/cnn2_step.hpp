// One CNN-2 batch whose loss and gradients PyTorch computed in double precision (make_cnn2_step.py says how).
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

namespace dither {

struct GoldenStep {
    nlohmann::json expected;
    Batch batch;

    explicit GoldenStep(const std::string& file) : expected(nlohmann::json::parse(std::ifstream(file))) {
        const int size = expected["batch"];
        batch.inputs.resize(Shape{size, 28, 28, 1});
        for (std::size_t i = 0; i < batch.inputs.values().size(); ++i) {
            const double t = static_cast<double>(i);
            batch.inputs.values()[i] = static_cast<float>(std::cos(0.013 * t + 0.00001 * t * t));
        }
        for (int i = 0; i < size; ++i)
            batch.targets.labels.push_back(i % 10);
    }

    void fill_parameters(Model& model) const {
        for (const LayerSpec& layer : model.schema().layers())
            for (std::size_t i = layer.offset; i < layer.offset + layer.count; ++i) {
                const double t = static_cast<double>(i);
                model.parameters()[i] = static_cast<float>(expected["scale"][layer.name].get<double>() *
                                                           std::sin(0.7 * t + 0.0001 * t * t));
            }
    }

    /// Runs the step and returns the largest deviation from PyTorch: of the loss, and of each layer's gradients
    /// relative to the layer's gradient norm.
    double deviation(Model& model, const Loss& loss) const {
        fill_parameters(model);
        const Pass pass{.training = true};
        const Tensor& output = model.forward(batch.inputs, pass);
        Tensor gradient(output.shape());
        const double value = loss.evaluate(output, batch.targets, &gradient).mean_loss();
        model.backward(batch.inputs, gradient, pass);
        double worst = std::abs(value - expected["loss"].get<double>());
        for (std::size_t i = 0; i < model.schema().layer_count(); ++i) {
            const auto& layer = expected["layers"][i];
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
