// y = g * x with a learnt gain g for each feature, and a network that has such a layer.
#pragma once

#include "core/config.hpp"
#include "core/layers/activation.hpp"
#include "core/layers/weighted.hpp"
#include "core/model/model.hpp"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

namespace guide {

// x, y, dy and dx: [batch, features].
class Gain final : public dither::Layer {
public:
    explicit Gain(std::int64_t features) : features_(features) {}

    std::string_view kind() const override { return "gain"; }
    dither::Shape output_shape() const override { return {1, features_}; }
    std::vector<dither::ParameterSpec> parameters() const override {
        return {{.name = "gain", .shape = {features_}, .constant = 1}};
    }
    void attach(std::size_t /*index*/, std::span<float> values, std::span<float> gradients) override {
        gain_ = values;
        gradient_ = gradients;
    }
    dither::Affinity affinity() const override { return {.input = true, .parameters = true}; }

    dither::Tensor forward(dither::Tensor x, const dither::Pass& pass) override {
        if (pass.keep)
            x_ = x.share();
        dither::Tensor y = dither::in_place_of(x, pass);
        for (std::size_t i = 0; i < y.values().size(); ++i)
            y.data()[i] = gain_[i % gain_.size()] * x.data()[i];
        return y;
    }

    // dg = sum over the batch of dy * x, dx = g * dy.
    dither::Tensor backward(dither::Tensor dy, const dither::Pass& pass, bool wanted) override {
        const dither::Tensor x = std::move(x_);
        std::ranges::fill(gradient_, 0.0F);
        for (std::size_t i = 0; i < dy.values().size(); ++i)
            gradient_[i % gain_.size()] += dy.data()[i] * x.data()[i];
        if (!wanted)
            return {};
        dither::Tensor dx = dither::in_place_of(dy, pass);
        for (std::size_t i = 0; i < dx.values().size(); ++i)
            dx.data()[i] = gain_[i % gain_.size()] * dy.data()[i];
        return dx;
    }

private:
    std::int64_t features_;
    std::span<float> gain_;
    std::span<float> gradient_;
    dither::Tensor x_;
};

inline std::unique_ptr<dither::Model> make_network(const dither::ModelOptions& options,
                                                   const dither::QuantizeOptions& quantize,
                                                   const dither::ModelInput& input, const dither::Backend& backend) {
    const std::int64_t width = options.hidden.front();
    std::vector<std::unique_ptr<dither::Layer>> layers;
    layers.push_back(
        dither::make_linear(input.sample.count(), width, /*bias=*/true, quantize, backend, input.max_batch));
    layers.push_back(dither::make_tanh({1, width}));
    layers.push_back(std::make_unique<Gain>(width));
    layers.push_back(dither::make_linear(width, input.outputs, /*bias=*/true, quantize, backend, input.max_batch));
    return std::make_unique<dither::Model>(std::move(layers), input);
}

}  // namespace guide
