#include "core/model/detail/chain.hpp"
#include "core/error.hpp"
#include "core/layers/activation.hpp"
#include "core/layers/dropout.hpp"
#include "core/layers/norm.hpp"
#include "core/layers/residual.hpp"
#include "core/layers/sequential.hpp"
#include "core/layers/weighted.hpp"

namespace dither {

namespace {

/// Throws InputError on options that are fine alone but not together.
void check_quantizers(const QuantizeOptions& quantize) {
    if ((quantize.weights.bits == 0) != (quantize.activations.bits == 0))
        throw InputError(
            "quantize.weights.bits, quantize.activations.bits: expected both or none, for the plan has one width for "
            "the "
            "forward pass");
    for (const auto& [key, options] :
         {std::pair{"quantize.weights", &quantize.weights}, std::pair{"quantize.activations", &quantize.activations}}) {
        if (!is_learned(options->observer))
            continue;
        const bool inputs = options == &quantize.activations;
        if (options->granularity != Granularity::per_tensor &&
            (inputs || options->granularity != Granularity::per_channel))
            throw InputError(fmt::format("{}.scheme: expected {} for a range that is learned, found {}", key,
                                         inputs ? "per_tensor" : "per_tensor or per_channel", scheme_name(*options)));
        if (options->rounding == Rounding::stochastic)
            throw InputError(fmt::format(
                "{}.rounding: expected nearest for a range that is learned: its gradient is that of the nearest code",
                key));
    }
}

}  // namespace

/// Makes a layer with the options that it has by its name, which errors tell.
template <typename Make>
std::unique_ptr<Layer> Chain::quantized(const std::string& name, const Make& make) const {
    try {
        const QuantizeOptions quantize = options_for(quantize_, name);
        check_quantizers(quantize);
        return make(quantize);
    } catch (const InputError& error) {
        throw InputError(fmt::format("layer {}: {}", name, error.what()));
    }
}

Chain& Chain::linear(std::int64_t out, bool bias) {
    return add(quantized(fmt::format("fc{}", ++counts_.linears), [&](const QuantizeOptions& quantize) {
        return make_linear(shape_.count(), out, bias, quantize, backend_, input_.max_batch);
    }));
}

Chain& Chain::conv(std::int64_t channels, const ConvOptions& options) {
    require(shape_.rank() == 4, "conv2d needs images [1, height, width, channels], not {}", shape_.str());
    const ConvGeometry geometry{.in_height = shape_[1],
                                .in_width = shape_[2],
                                .in_channels = shape_[3],
                                .out_channels = channels,
                                .kernel = options.kernel,
                                .stride = options.stride,
                                .padding = options.padding,
                                .groups = options.groups};
    geometry.check();
    return add(quantized(fmt::format("conv{}", ++counts_.convolutions), [&](const QuantizeOptions& quantize) {
        return make_conv2d(geometry, options.bias, quantize, backend_, input_.max_batch);
    }));
}

Chain& Chain::relu() {
    return absorbed(Tail::relu) ? *this : add(make_relu(shape_));
}

Chain& Chain::relu6() {
    return add(make_relu6(shape_));
}

Chain& Chain::tanh() {
    return add(make_tanh(shape_));
}

Chain& Chain::hard_tanh() {
    return add(make_hard_tanh(shape_));
}

Chain& Chain::max_pool(const PoolWindow& window) {
    const bool halves = window == PoolWindow{} && shape_.rank() == 4 && shape_[1] % 2 == 0 && shape_[2] % 2 == 0;
    return halves && absorbed(Tail::max_pool) ? *this : add(make_max_pool(shape_, window));
}

Chain& Chain::average_pool(const PoolWindow& window) {
    return add(make_average_pool(shape_, window));
}

Chain& Chain::global_pool() {
    return add(make_global_pool(shape_));
}

Chain& Chain::batch_norm() {
    return add(make_batch_norm(shape_, options_.norm_statistics));
}

Chain& Chain::group_norm(std::int64_t groups) {
    return add(make_group_norm(shape_, groups));
}

Chain& Chain::dropout(double rate) {
    return add(make_dropout(shape_, rate, counts_.dropouts++));
}

Chain& Chain::residual(const Way& body, const Way& shortcut) {
    std::unique_ptr<Layer> first = way_through(body);
    std::unique_ptr<Layer> second = shortcut ? way_through(shortcut) : nullptr;
    require(first != nullptr, "residual: the body has no layers");
    return add(make_residual(shape_, std::move(first), std::move(second)));
}

Chain& Chain::add(std::unique_ptr<Layer> layer) {
    shape_ = layer->output_shape();
    layers_.push_back(std::move(layer));
    return *this;
}

bool Chain::absorbed(Tail tail) {
    if (layers_.empty() || !layers_.back()->absorb(tail))
        return false;
    shape_ = layers_.back()->output_shape();
    return true;
}

std::unique_ptr<Layer> Chain::way_through(const Way& way) {
    Chain inner(options_, quantize_, input_, backend_);
    inner.shape_ = shape_;
    inner.counts_ = counts_;
    way(inner);
    counts_ = inner.counts_;
    if (inner.layers_.empty())
        return nullptr;
    return std::make_unique<Sequential>(std::move(inner.layers_));
}

void require_images(const ModelInput& input, std::string_view model, std::int64_t divisor) {
    const Shape& s = input.sample;
    if (s.rank() != 4 || s[1] < divisor || s[2] < divisor || s[1] % divisor != 0 || s[2] % divisor != 0)
        throw InputError(
            fmt::format("model.name: {} needs images [1, height, width, channels] whose height and width are divisible "
                        "by {}, but a sample is {}",
                        model, divisor, s.str()));
}

}  // namespace dither
