#include "core/error.hpp"
#include "core/model/detail/chain.hpp"

#include <algorithm>
#include <array>

namespace dither {
namespace {

using Maker = std::unique_ptr<Model> (*)(Chain&, const ModelOptions&);

constexpr std::array kModels{
    ChoiceRow<Maker>{"linear", "one linear layer", make_linear_model},
    ChoiceRow<Maker>{"mlp", "linear layers with ReLU, of the widths model.hidden", make_mlp},
    ChoiceRow<Maker>{"cnn2", "two convolutions and two linear layers, for images", make_cnn2},
    ChoiceRow<Maker>{"cnn4", "four convolutions and two linear layers, for images", make_cnn4},
    ChoiceRow<Maker>{"resnet8", "the residual network of MLPerf Tiny, for images", make_resnet8},
    ChoiceRow<Maker>{"mobilenet", "a small network of depthwise separable convolutions, for images", make_mobilenet},
    ChoiceRow<Maker>{"layers", "the layers of model.layers", make_described_model},
};

/// Throws InputError where an override speaks of no layer: it is a slip of the pen.
void check_overrides(std::span<const LayerOverride> overrides, const Schema& schema) {
    for (std::size_t i = 0; i < overrides.size(); ++i) {
        // The optimizer's bits are those of any layer; what else there is concerns products.
        const bool any = std::ranges::all_of(overrides[i].settings,
                                             [](const auto& setting) { return setting.first == "optimizer_bits"; });
        std::vector<std::string_view> names;
        for (const LayerSpec& layer : schema.layers())
            if (any || layer.macs > 0)
                names.emplace_back(layer.name);
        if (std::ranges::none_of(names, [&](std::string_view name) { return matches(overrides[i], name); }))
            throw InputError(fmt::format("quantize.layers[{}].match: \"{}\" matches none of the layers {}", i,
                                         overrides[i].match, fmt::join(names, ", ")));
    }
}

}  // namespace

std::vector<Choice> model_choices() {
    return choices_of(kModels);
}

std::unique_ptr<Model> make_model(const ModelOptions& options, const QuantizeOptions& quantize, const ModelInput& input,
                                  const Backend& backend) {
    const bool usable = input.sample.rank() > 0 && input.sample.count() > 0 && input.outputs > 0 && input.max_batch > 0;
    require(usable, "a model needs a sample, outputs and a batch, got {}, {} and {}", input.sample.str(), input.outputs,
            input.max_batch);
    Chain chain(options, quantize, input, backend);
    std::unique_ptr<Model> model = choose(kModels, "model.name", options.name)(chain, options);
    check_overrides(quantize.layers, model->schema());
    return model;
}

}  // namespace dither
