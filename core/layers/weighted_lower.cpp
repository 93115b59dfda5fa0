// The layer with weights as steps of an integer model: its codes and its grids as a forward pass that learns nothing
// would find them.
#include "core/error.hpp"
#include "core/inference/lowering.hpp"
#include "core/layers/detail/operands.hpp"
#include "core/layers/detail/weighted_layer.hpp"

#include <array>
#include <optional>
#include <string>

namespace dither {
namespace {

/// Why an operand has no codes in an integer model; none if it has.
std::optional<std::string> refusal(const Quantizer& quantizer, std::string_view operand, int bits) {
    const QuantizerOptions& options = quantizer.options();
    if (bits < 2 || bits > kCodeBits)
        return fmt::format("its {} have {} bits, expected 2 .. {}", operand, bits, kCodeBits);
    if (!has_codes(quantizer, bits))
        return fmt::format("its {} of {} bits are floating-point numbers", operand, bits);
    if (options.rounding == Rounding::stochastic)
        return fmt::format("its {} are rounded at random", operand);
    return std::nullopt;
}

std::string scheme_refusal(const Quantizer& quantizer, std::string_view operand) {
    return fmt::format("its {} are {}", operand, scheme_name(quantizer.options()));
}

}  // namespace

void WeightedLayer::check_integer_form(const Lowering& out) const {
    const std::string& name = out.name(index_);
    for (const auto& reason : {refusal(weight_quantizer_, "weights", widths_.weights),
                               refusal(input_quantizer_, "activations", widths_.inputs)})
        if (reason)
            refuse_conversion(name, *reason);
    const Granularity weights = weight_quantizer_.options().granularity;
    if (!has_integer_weights() || weights == Granularity::per_sample)
        refuse_conversion(name, scheme_refusal(weight_quantizer_, "weights"));
    if (input_quantizer_.options().granularity != Granularity::per_tensor)
        refuse_conversion(name, scheme_refusal(input_quantizer_, "activations"));
    if (makers_.integer == nullptr)
        refuse_conversion(name, "its sums could leave 32 bits");
}

/// The grid of an input that reaches up to `reach`, with negative values where the last input had some: lsq then has
/// signed codes.
ActivationGrid WeightedLayer::grid_for(float reach) {
    const std::span<const ScaleZero> last = input_quantizer_.scales();
    const std::array<float, 2> x{!last.empty() && last[0].zero_point > 0 ? -reach : 0, reach};
    const QuantLayout layout{.rows = 1, .columns = x.size()};
    if (learns_inputs())
        input_quantizer_.set_grid(input_range_->grid(x, layout, widths_.inputs, false));
    std::array<std::uint8_t, x.size()> codes{};
    input_quantizer_.encode(x, codes, layout, widths_.inputs, {}, false, false);
    const bool symmetric = input_quantizer_.options().symmetry == Symmetry::symmetric;
    return {.scale = input_quantizer_.scales()[0].scale,
            .bits = widths_.inputs,
            .zero_point = input_quantizer_.offset(0),
            .lowest = symmetric ? 1 : 0};
}

void WeightedLayer::lower(Lowering& out) {
    widths_ = widths({.plan = &out.plan()});
    check_integer_form(out);
    constexpr std::string_view kUnknown = "nobody learnt the range of its activations; calibrate first";
    if (learns_inputs() && input_quantizer_.scales().empty())
        refuse_conversion(out.name(index_), kUnknown);
    // Two inputs of unlike ranges have the same grid only where the quantizer goes by what it learnt.
    const ActivationGrid grid = grid_for(1);
    if (grid != grid_for(2))
        refuse_conversion(out.name(index_), kUnknown);
    exact_weights_ = values_.first(weight_count());
    if (learns_weights())
        weight_quantizer_.set_grid(weight_range_->grid(exact_weights_, weight_layout(), widths_.weights, false));
    weights_.encode(weight_quantizer_, exact_weights_, weight_layout(), widths_.weights, {}, false);

    ProductOperation product{.name = out.name(index_),
                             .linear = shape_.result.rank() == 2,
                             .geometry = shape_.geometry,
                             .bits = widths_.weights,
                             .weights = pack_codes(weights_.codes(), widths_.weights),
                             .scales = weights_.scales,
                             .bias = {},
                             .grid = grid};
    if (shape_.bias)
        product.bias.assign(values_.begin() + static_cast<std::ptrdiff_t>(weight_count()), values_.end());
    out.append(std::move(product));
    if (pool_)
        out.append(PoolOperation{});
    if (relu_)
        out.append_relu();
}

}  // namespace dither
