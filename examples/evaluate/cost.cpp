#include "examples/evaluate/cost.hpp"

#include <algorithm>
#include <chrono>

#include "core/precision/energy.hpp"
#include "core/quantize/width.hpp"

namespace dither {
namespace {

constexpr double kFloatBytes = 4;

OperandFormat format_of(const QuantizerOptions& options, int bits) {
    return {bits, bits != kFullBits && !float_format(options, bits)};
}

/// Of a tensor of `bits` bits: "per_channel_symmetric", or "bf16"; empty in fp32.
std::string scheme_of(const QuantizerOptions& options, int bits) {
    if (bits == kFullBits)
        return "";
    if (!float_format(options, bits))
        return std::string(scheme_name(options));
    const Choice format = bits == 16 ? format16_choices()[static_cast<std::size_t>(options.format16)]
                                     : format8_choices()[static_cast<std::size_t>(options.format8)];
    return std::string(format.name);
}

bool has_scales(const QuantizerOptions& options, int bits) {
    return bits != kFullBits && (bits != 16 || options.format16 != Format16::bf16);
}

/// How many scales weights of this shape, [.., in, out], have.
std::int64_t scales_of(const QuantizerOptions& options, int bits, const Shape& weights) {
    if (!has_scales(options, bits))
        return 0;
    if (float_format(options, bits))
        return 1;
    if (options.granularity == Granularity::per_channel)
        return weights[weights.rank() - 1];
    return options.granularity == Granularity::per_group ? weights.count() / options.group_size : 1;
}

/// Scales are fp32, zero points 32 bits.
double grid_bytes(const QuantizerOptions& options, int bits, std::int64_t scales) {
    const bool zero_points = options.symmetry == Symmetry::affine && !float_format(options, bits);
    return static_cast<double>(scales) * kFloatBytes * (zero_points ? 2 : 1);
}

/// Weights as codes, everything else in fp32. Learned ranges are the scales.
double packed_bytes(const LayerSpec& spec, const QuantizerOptions& options, int bits) {
    double bytes = 0;
    for (const TensorSpec& tensor : spec.tensors) {
        const std::int64_t count = tensor.shape.count();
        if (tensor.name == "weight")
            bytes += static_cast<double>((count * bits + 7) / 8) +
                     grid_bytes(options, bits, scales_of(options, bits, tensor.shape));
        else if (!is_range(tensor))
            bytes += kFloatBytes * static_cast<double>(count);
    }
    return bytes;
}

LayerReport describe(const LayerSpec& spec, const QuantizeOptions& quantize, int planned) {
    const int weights = width_of(quantize.weights, planned);
    const int activations = width_of(quantize.activations, planned);
    LayerReport layer{.name = spec.name,
                      .weight_bits = weights,
                      .activation_bits = activations,
                      .scheme = scheme_of(quantize.weights, weights),
                      .activations = scheme_of(quantize.activations, activations),
                      .observer = "",
                      .bytes = packed_bytes(spec, quantize.weights, weights),
                      .macs = spec.macs,
                      .bit_ops = spec.macs * weights * activations,
                      .arithmetic_pj = spec.macs * mac_energy_pj(format_of(quantize.weights, weights),
                                                                 format_of(quantize.activations, activations))};
    for (const TensorSpec& tensor : spec.tensors)
        layer.parameters += is_range(tensor) ? 0 : static_cast<std::size_t>(tensor.shape.count());
    if (has_scales(quantize.activations, activations)) {
        layer.observer = observer_choices()[static_cast<std::size_t>(quantize.activations.observer)].name;
        layer.bytes += grid_bytes(quantize.activations, activations, 1);
    }
    return layer;
}

LayerReport describe(const ProductOperation& product) {
    const auto& geometry = product.geometry;
    const double macs =
        static_cast<double>(geometry.out_height() * geometry.out_width()) * static_cast<double>(product.weight_count());
    return {.name = product.name,
            .parameters = product.weight_count() + product.bias.size(),
            .weight_bits = product.bits,
            .activation_bits = product.grid.bits,
            .scheme = "per_channel_symmetric",
            .activations = product.grid.lowest == 0 ? "per_tensor_affine" : "per_tensor_symmetric",
            .observer = "",
            .bytes = static_cast<double>(product.weights.size()) +
                     kFloatBytes * static_cast<double>(product.scales.size() + product.bias.size() + 2),
            .macs = macs,
            .bit_ops = macs * product.bits * product.grid.bits,
            .arithmetic_pj = macs * mac_energy_pj({product.bits}, {product.grid.bits})};
}

}  // namespace

std::vector<LayerReport> layers_of(const Subject& subject) {
    std::vector<LayerReport> layers;
    for (std::size_t i = 0; i < subject.schema().layer_count(); ++i) {
        const LayerSpec& spec = subject.schema().layers()[i];
        if (is_range(spec.tensors.front()))  // it stands in the scales of its layer
            continue;
        // Layers without products (norms) are fp32 in the forward pass, whatever the plan says.
        const int planned = spec.macs > 0 ? subject.plan().layers[i].forward : kFullBits;
        layers.push_back(describe(spec, options_for(subject.job().quantize, spec.name), planned));
    }
    return layers;
}

std::vector<LayerReport> layers_of(const IntegerModel& model) {
    std::vector<LayerReport> layers;
    for (const Step& step : model.steps) {
        if (const auto* product = std::get_if<ProductOperation>(&step.operation))
            layers.push_back(describe(*product));
        if (const auto* norm = std::get_if<AffineOperation>(&step.operation))
            layers.push_back({.name = norm->name,
                              .parameters = 3 * norm->scale.size(),
                              .bytes = 3 * kFloatBytes * static_cast<double>(norm->scale.size())});
    }
    return layers;
}

Variant cost_of(std::span<const LayerReport> layers) {
    Variant cost;
    for (const LayerReport& layer : layers) {
        cost.bytes += layer.bytes;
        cost.bit_ops += layer.bit_ops;
        cost.arithmetic_pj += layer.arithmetic_pj;
    }
    cost.weights_pj = read_energy_pj(cost.bytes);
    return cost;
}

Variant full_cost_of(std::span<const LayerReport> layers) {
    Variant cost;
    for (const LayerReport& layer : layers) {
        cost.bytes += kFloatBytes * static_cast<double>(layer.parameters);
        cost.bit_ops += layer.macs * kFullBits * kFullBits;
        cost.arithmetic_pj += layer.macs * mac_energy_pj({.integer = false}, {.integer = false});
    }
    cost.weights_pj = read_energy_pj(cost.bytes);
    return cost;
}

double median_seconds(const std::function<void()>& work) {
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::duration<double> kEnough{0.25};
    constexpr std::size_t kFewest = 5;
    constexpr std::size_t kMost = 2000;
    work();
    std::vector<double> seconds;
    const auto begin = Clock::now();
    while (seconds.size() < kFewest || (Clock::now() - begin < kEnough && seconds.size() < kMost)) {
        const auto start = Clock::now();
        work();
        seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
    std::ranges::nth_element(seconds, middle);
    return *middle;
}

}  // namespace dither
