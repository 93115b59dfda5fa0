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
    return kind == "conv2d" ? "conv" : kind;
}

LayerSpec describe(const Layer& layer, const std::string& name, std::size_t offset) {
    LayerSpec spec{.name = name, .offset = offset, .count = 0, .tensors = {}, .macs = layer.macs()};
    for (const ParameterSpec& parameter : layer.parameters()) {
        spec.tensors.push_back({parameter.name, parameter.shape, offset + spec.count});
        spec.count += static_cast<std::size_t>(parameter.shape.count());
    }
    return spec;
}

}  // namespace

Model::Model(std::vector<std::unique_ptr<Layer>> layers, const ModelInput& input)
    : layers_(std::move(layers)), max_batch_(input.max_batch) {
    require(!layers_.empty() && max_batch_ > 0, "a model needs layers and room for a batch");
    std::map<std::string_view, int> ordinals;
    std::vector<LayerSpec> specs;
    std::size_t offset = 0;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        if (layers_[i]->parameters().empty())
            continue;
        const std::string_view name = short_name(layers_[i]->kind());
        specs.push_back(describe(*layers_[i], fmt::format("{}{}", name, ++ordinals[name]), offset));
        offset += specs.back().count;
        weighted_.push_back(i);
    }
    schema_ = Schema(std::move(specs));
    parameters_.resize(schema_.parameters());
    gradients_.resize(schema_.parameters());
    for (std::size_t i = 0; i < weighted_.size(); ++i)
        layers_[weighted_[i]]->attach(i, schema_.slice(parameters(), i), schema_.slice(gradients(), i));
    plan_buffers();
    require(outputs_.back().shape() == Shape({max_batch_, input.outputs}), "the last layer gives {}, expected {}",
            outputs_.back().shape().str(), Shape({max_batch_, input.outputs}).str());
}

void Model::plan_buffers() {
    for (const auto& layer : layers_) {
        const Shape shape = layer->output_shape().with_batch(max_batch_);
        outputs_.emplace_back(shape);
        if (outputs_.size() < layers_.size())  // the last layer's comes from the loss
            gradients_of_outputs_.emplace_back(shape);
    }
}

void Model::initialize(std::uint32_t seed) {
    std::uint32_t ordinal = 0;
    for (std::size_t i = 0; i < weighted_.size(); ++i) {
        const std::vector<ParameterSpec> specs = layers_[weighted_[i]]->parameters();
        for (std::size_t t = 0; t < specs.size(); ++t, ++ordinal) {
            const TensorSpec& tensor = schema_.layers()[i].tensors[t];
            const std::span<float> values =
                parameters().subspan(tensor.offset, static_cast<std::size_t>(tensor.shape.count()));
            const float bound = 1 / std::sqrt(static_cast<float>(specs[t].fan_in));
            Stream({.seed = seed, .purpose = Purpose::initialization, .lane = ordinal}).fill_uniform(values);
            for (float& value : values)
                value = (2 * value - 1) * bound;
        }
    }
}

const Tensor& Model::forward(const Tensor& x, const Pass& pass) {
    require(x.shape().rank() > 0 && x.shape()[0] <= max_batch_, "a model planned for {} samples got {}", max_batch_,
            x.shape()[0]);
    const Tensor* input = &x;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        layers_[i]->forward(*input, outputs_[i], pass);
        input = &outputs_[i];
    }
    return outputs_.back();
}

void Model::backward(const Tensor& x, const Tensor& gradient, const Pass& pass) {
    require(gradient.shape() == outputs_.back().shape(), "the output has {} values, its gradient {}",
            outputs_.back().count(), gradient.count());
    const Tensor* dy = &gradient;
    for (std::size_t i = layers_.size(); i-- > 0;) {
        Tensor* dx = i > 0 ? &gradients_of_outputs_[i - 1] : nullptr;
        layers_[i]->backward(i > 0 ? outputs_[i - 1] : x, outputs_[i], *dy, dx, pass);
        dy = dx;
    }
}

void Model::reset() {
    for (const auto& layer : layers_)
        layer->reset();
}

void Model::report(std::span<LayerStatistics> statistics) const {
    require(statistics.size() == weighted_.size(), "expected room for {} layers, got {}", weighted_.size(),
            statistics.size());
    for (std::size_t i = 0; i < weighted_.size(); ++i)
        layers_[weighted_[i]]->report(statistics[i]);
}

}  // namespace dither
