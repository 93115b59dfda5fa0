#include "core/error.hpp"
#include "core/model/detail/chain.hpp"

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
    return choose(kModels, "model.name", options.name)(chain, options);
}

}  // namespace dither
