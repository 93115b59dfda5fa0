#include "core/model/model.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

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

/// The layer's entries in the schema: its parameters and, where it has any, its learned ranges.
std::vector<LayerSpec> describe(const Layer& layer, const std::string& name, std::size_t offset) {
    std::vector<LayerSpec> specs{{.name = name,
                                  .offset = offset,
                                  .count = 0,
                                  .tensors = {},
                                  .macs = layer.macs(),
                                  .inputs = layer.kept_inputs()}};
    for (const ParameterSpec& parameter : layer.parameters()) {
        if (parameter.range && specs.size() == 1)
            specs.push_back({.name = name + "_range", .offset = offset, .count = 0, .tensors = {}});
        LayerSpec& spec = specs.back();
        spec.tensors.push_back({parameter.name, parameter.shape, offset, parameter.trained});
        const auto count = static_cast<std::size_t>(parameter.shape.count());
        spec.count += count;
        offset += count;
    }
    return specs;
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
        const std::vector<LayerSpec> entries = describe(layer, fmt::format("{}{}", name, ++ordinals[name]), offset);
        parts_.push_back({&layer, specs.size(), entries.size()});
        specs.insert(specs.end(), entries.begin(), entries.end());
        offset = specs.back().offset + specs.back().count;
    });
    schema_ = Schema(std::move(specs));
    find_affine_parts();
    parameters_.resize(schema_.parameters());
    gradients_ = UntouchedFloats(schema_.parameters());
    for (const auto& [layer, index, entries] : parts_) {
        const LayerSpec& first = schema_.layers()[index];
        const LayerSpec& last = schema_.layers()[index + entries - 1];
        const std::size_t count = last.offset + last.count - first.offset;
        layer->attach(index, parameters().subspan(first.offset, count), gradients().subspan(first.offset, count));
    }
}

/// From the last layer to the first. A shortcut's layers come behind the body's in that order without following them:
/// where one of them is not affine, the body's count as followed by it all the same, which errs on the safe side.
void Model::find_affine_parts() {
    std::vector<Layer*> layers;
    network_.visit([&](Layer& layer) { layers.push_back(&layer); });
    affine_.resize(schema_.layer_count());
    bool affine_behind = true;
    std::size_t part = parts_.size();
    for (std::size_t i = layers.size(); i-- > 0;) {
        const Affinity affinity = layers[i]->affinity();
        if (part > 0 && parts_[part - 1].layer == layers[i]) {
            --part;
            for (std::size_t entry = 0; entry < parts_[part].entries; ++entry)
                affine_[parts_[part].index + entry] = affine_behind && affinity.parameters;
        }
        affine_behind = affine_behind && affinity.input;
    }
}

void Model::initialize(std::uint32_t seed) {
    std::uint32_t ordinal = 0;
    for (const Part& part : parts_) {
        std::size_t offset = schema_.layers()[part.index].offset;
        for (const ParameterSpec& spec : part.layer->parameters()) {
            const auto count = static_cast<std::size_t>(spec.shape.count());
            const std::span<float> values = parameters().subspan(std::exchange(offset, offset + count), count);
            const std::uint32_t lane = ordinal++;
            if (spec.fan_in == 0) {
                std::ranges::fill(values, spec.constant);
                continue;
            }
            const float bound = 1 / std::sqrt(static_cast<float>(spec.fan_in));
            Stream({.seed = seed, .purpose = Purpose::initialization, .lane = lane}).fill_uniform(values);
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
    require(statistics.size() == schema_.layer_count(), "expected room for {} layers, got {}", schema_.layer_count(),
            statistics.size());
    for (const Part& part : parts_)
        part.layer->report(statistics[part.index]);
}

}  // namespace dither
