// Builds a chain of layers, and declares the models that are built with it; make_model chooses. Private to core/model.
#pragma once

#include "core/config.hpp"
#include "core/model/model.hpp"

namespace dither {

/// Appends layers to a chain; each takes the shape that the one before gives. Borrows what it is constructed from.
class Chain {
public:
    Chain(const QuantizeOptions& quantize, const ModelInput& input, const Backend& backend)
        : quantize_(quantize), input_(input), backend_(backend), shape_(input.sample.with_batch(1)) {}

    const ModelInput& input() const { return input_; }

    Chain& linear(std::int64_t out);
    /// 3x3, padding 1: height and width stay.
    Chain& conv(std::int64_t channels);
    Chain& relu();
    Chain& max_pool();

    std::unique_ptr<Model> build() { return std::make_unique<Model>(std::move(layers_), input_); }

private:
    Chain& add(std::unique_ptr<Layer> layer);

    const QuantizeOptions& quantize_;
    const ModelInput& input_;
    const Backend& backend_;
    Shape shape_;
    std::vector<std::unique_ptr<Layer>> layers_;
};

std::unique_ptr<Model> make_linear_model(Chain& chain, const ModelOptions& options);
std::unique_ptr<Model> make_mlp(Chain& chain, const ModelOptions& options);
std::unique_ptr<Model> make_cnn2(Chain& chain, const ModelOptions& options);

}  // namespace dither
