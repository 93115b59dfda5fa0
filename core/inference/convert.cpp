#include "core/error.hpp"
#include "core/inference/lowering.hpp"
#include "core/model/model.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dither {

void refuse_conversion(std::string_view layer, std::string_view reason) {
    throw InputError(fmt::format("convert: {} has no integer form: {}", layer, reason));
}

void Lowering::append(Operation operation) {
    Step& step = steps_.emplace_back();
    step.input = value_;
    step.operation = std::move(operation);
    value_ = static_cast<std::uint32_t>(steps_.size());
}

void Lowering::append_relu() {
    append(ClampOperation{.low = 0, .high = std::numeric_limits<float>::infinity()});
}

namespace {

/// "W8A8", or "W4-8 A8-8" where layers differ.
std::string in_words(std::span<const Step> steps) {
    int weights[2] = {kFullBits, 0};
    int activations[2] = {kFullBits, 0};
    for (const Step& step : steps)
        if (const auto* product = std::get_if<ProductOperation>(&step.operation)) {
            weights[0] = std::min(weights[0], product->bits);
            weights[1] = std::max(weights[1], product->bits);
            activations[0] = std::min(activations[0], product->grid.bits);
            activations[1] = std::max(activations[1], product->grid.bits);
        }
    if (weights[0] == weights[1] && activations[0] == activations[1])
        return fmt::format("W{}A{}", weights[0], activations[0]);
    return fmt::format("W{}-{} A{}-{}", weights[0], weights[1], activations[0], activations[1]);
}

}  // namespace

IntegerModel convert(Model& model, const PrecisionPlan& plan) {
    const Schema& schema = model.schema();
    require(plan.layers.size() == schema.layer_count(), "a plan of {} layers for a model of {}", plan.layers.size(),
            schema.layer_count());
    for (std::size_t i = 0; i < schema.layer_count(); ++i)
        if (!std::ranges::all_of(schema.slice(std::as_const(model).parameters(), i),
                                 [](float value) { return std::isfinite(value); }))
            refuse_conversion(schema.layers()[i].name, "a parameter is not finite");
    Lowering lowering(schema, plan);
    model.lower(lowering);
    IntegerModel converted{.name = {},
                           .quantization = {},
                           .sample = model.sample_shape(),
                           .outputs = static_cast<int>(model.output_shape()[1]),
                           .scaling = {},
                           .steps = lowering.take()};
    converted.quantization = in_words(converted.steps);
    check(converted);
    return converted;
}

}  // namespace dither
