#include "core/optim/weight_rounder.hpp"

#include "core/config.hpp"
#include "core/error.hpp"

namespace dither {
namespace {

QuantizerOptions rounding_of(const QuantizeOptions& quantize, const std::string& layer) {
    QuantizerOptions options = options_for(quantize, layer).weights;
    options.rounding = Rounding::stochastic;
    options.observer = Observer::minmax;
    return options;
}

}  // namespace

WeightRounder::WeightRounder(const QuantizeOptions& quantize, const Schema& schema)
    : parameters_(schema.parameters()), layers_(schema.layer_count()) {
    for (std::size_t i = 0; i < schema.layer_count(); ++i) {
        const LayerSpec& layer = schema.layers()[i];
        for (const TensorSpec& tensor : layer.tensors) {
            if (tensor.name != "weight" || layer.macs == 0)
                continue;
            const auto columns = static_cast<std::size_t>(tensor.shape[tensor.shape.rank() - 1]);
            const auto count = static_cast<std::size_t>(tensor.shape.count());
            weights_.push_back({i,
                                tensor.offset,
                                {.rows = count / columns, .columns = columns, .sums_rows = true},
                                Quantizer(rounding_of(quantize, layer.name))});
        }
    }
}

void WeightRounder::round(std::span<float> parameters, const PrecisionPlan* plan, const StreamKey& key) {
    if (plan == nullptr)
        return;
    require(parameters.size() == parameters_ && plan->layers.size() == layers_,
            "weights of {} parameters and a plan for {} layers, the model has {} and {}", parameters.size(),
            plan->layers.size(), parameters_, layers_);
    for (Weights& weights : weights_) {
        const int planned = plan->layers[weights.layer].forward;
        if (planned == kFullBits)
            continue;
        const int own = weights.quantizer.options().bits;
        const std::span<float> values =
            parameters.subspan(weights.offset, weights.layout.rows * weights.layout.columns);
        weights.quantizer.apply(values, values, weights.layout, own == 0 ? planned : own,
                                key.with(Purpose::weight_rounding, static_cast<std::uint32_t>(weights.layer)));
    }
}

}  // namespace dither
