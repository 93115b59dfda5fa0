#include "core/model/model.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <map>

namespace dither {
namespace {

std::string_view short_name(std::string_view kind) {
    if (kind == "linear")
        return "fc";
    if (kind == "batch_norm")
        return "bn";
    if (kind == "group_norm")
        return "gn";
    return kind == "conv2d" ? "conv" : kind;
}

LayerSpec describe(const Layer& layer, const std::string& name, std::size_t offset) {
    LayerSpec spec{.name = name, .offset = offset, .count = 0, .tensors = {}, .macs = layer.macs()};
    for (const ParameterSpec& parameter : layer.parameters()) {
        spec.tensors.push_back({parameter.name, parameter.shape, offset + spec.count, parameter.trained});
        spec.count += static_cast<std::size_t>(parameter.shape.count());
    }
    return spec;
}

}  // namespace

Model::Model(std::vector<std::unique_ptr<Layer>> layers, const ModelInput& input)
    : network_(std::move(layers)), sample_(input.sample.with_batch(1)), max_batch_(input.max_batch) {
    require(max_batch_ > 0, "a model needs room for a batch");
    const Shape outputs{1, input.outputs};
    require(network_.output_shape() == outputs, "the last layer gives {}, expected {}", network_.output_shape().str(),
            outputs.str());
    std::map<std::string_view, int> ordinals;
    std::vector<LayerSpec> specs;
    std::size_t offset = 0;
    network_.visit([&](Layer& layer) {
        if (layer.parameters().empty())
            return;
        const std::string_view name = short_name(layer.kind());
        specs.push_back(describe(layer, fmt::format("{}{}", name, ++ordinals[name]), offset));
        offset += specs.back().count;
        parts_.push_back(&layer);
    });
    schema_ = Schema(std::move(specs));
    parameters_.resize(schema_.parameters());
    gradients_.resize(schema_.parameters());
    for (std::size_t i = 0; i < parts_.size(); ++i)
        parts_[i]->attach(i, schema_.slice(parameters(), i), schema_.slice(gradients(), i));
}

void Model::initialize(std::uint32_t seed) {
    std::uint32_t ordinal = 0;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
        const std::vector<ParameterSpec> specs = parts_[i]->parameters();
        for (std::size_t t = 0; t < specs.size(); ++t, ++ordinal) {
            const TensorSpec& tensor = schema_.layers()[i].tensors[t];
            const std::span<float> values =
                parameters().subspan(tensor.offset, static_cast<std::size_t>(tensor.shape.count()));
            if (specs[t].fan_in == 0) {
                std::ranges::fill(values, specs[t].constant);
                continue;
            }
            const float bound = 1 / std::sqrt(static_cast<float>(specs[t].fan_in));
            Stream({.seed = seed, .purpose = Purpose::initialization, .lane = ordinal}).fill_uniform(values);
            for (float& value : values)
                value = (2 * value - 1) * bound;
        }
    }
}

Pass Model::inner(const Pass& pass) {
    Pass inner = pass;
    inner.arena = &arena_;
    return inner;
}

Tensor Model::forward(const Tensor& x, const Pass& pass) {
    require(x.shape().rank() > 0 && x.shape()[0] <= max_batch_, "a model planned for {} samples got {}", max_batch_,
            x.shape().rank() > 0 ? x.shape()[0] : 0);
    kept_ = pass.keep;
    return network_.forward(x.share(), inner(pass));
}

void Model::backward(Tensor gradient, const Pass& pass) {
    require(kept_, "a backward pass without a forward pass that keeps what it needs");
    kept_ = false;
    network_.backward(std::move(gradient), inner(pass), false);
}

void Model::reset() {
    network_.visit([](Layer& layer) { layer.reset(); });
}

void Model::report(std::span<LayerStatistics> statistics) const {
    require(statistics.size() == parts_.size(), "expected room for {} layers, got {}", parts_.size(),
            statistics.size());
    for (std::size_t i = 0; i < parts_.size(); ++i)
        parts_[i]->report(statistics[i]);
}

}  // namespace dither
