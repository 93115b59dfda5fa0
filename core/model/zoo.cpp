#include "core/config.hpp"
#include "core/error.hpp"
#include "core/layers/activation.hpp"
#include "core/layers/pool.hpp"
#include "core/layers/weighted.hpp"
#include "core/model/model.hpp"

namespace dither {
namespace {

/// Appends layers to a chain; each takes the shape that the one before gives.
class Chain {
public:
    Chain(const QuantizeOptions& quantize, const ModelInput& input, const Backend& backend)
        : quantize_(quantize), input_(input), backend_(backend), shape_(input.sample.with_batch(1)) {}

    Chain& linear(std::int64_t out) {
        return add(make_linear(shape_.count(), out, quantize_, backend_, input_.max_batch));
    }
    /// 3x3, padding 1: height and width stay.
    Chain& conv(std::int64_t channels) {
        const ConvGeometry geometry{.in_height = shape_[1],
                                    .in_width = shape_[2],
                                    .in_channels = shape_[3],
                                    .out_channels = channels,
                                    .kernel = 3,
                                    .stride = 1,
                                    .padding = 1};
        return add(make_conv2d(geometry, quantize_, backend_, input_.max_batch));
    }
    Chain& relu() { return add(make_relu(shape_)); }
    Chain& max_pool() { return add(make_max_pool(shape_)); }

    std::unique_ptr<Model> build() { return std::make_unique<Model>(std::move(layers_), input_); }

private:
    Chain& add(std::unique_ptr<Layer> layer) {
        shape_ = layer->output_shape();
        layers_.push_back(std::move(layer));
        return *this;
    }

    const QuantizeOptions& quantize_;
    const ModelInput& input_;
    const Backend& backend_;
    Shape shape_;
    std::vector<std::unique_ptr<Layer>> layers_;
};

std::unique_ptr<Model> make_mlp(Chain chain, const ModelOptions& options, int outputs) {
    for (const std::int64_t width : options.hidden) {
        if (width < 1)
            throw InputError(fmt::format("model.hidden: expected widths of at least 1, got {}", width));
        chain.linear(width).relu();
    }
    return chain.linear(outputs).build();
}

/// ReLU follows the pool: the maximum commutes with it, and it has a quarter of the values to do.
std::unique_ptr<Model> make_cnn2(Chain chain, const ModelInput& input) {
    const Shape& s = input.sample;
    if (s.rank() != 4 || s[1] < 4 || s[2] < 4 || s[1] % 4 != 0 || s[2] % 4 != 0)
        throw InputError(
            fmt::format("model.name: cnn2 needs images [1, height, width, channels] whose height and width are "
                        "divisible by 4, but a sample is {}",
                        s.str()));
    chain.conv(16).max_pool().relu().conv(32).max_pool().relu();
    return chain.linear(128).relu().linear(input.outputs).build();
}

}  // namespace

std::unique_ptr<Model> make_model(const ModelOptions& options, const QuantizeOptions& quantize, const ModelInput& input,
                                  const Backend& backend) {
    require(input.sample.rank() > 0 && input.sample.count() > 0 && input.outputs > 0 && input.max_batch > 0,
            "a model needs a sample, outputs and a batch, got {}, {} and {}", input.sample.str(), input.outputs,
            input.max_batch);
    Chain chain(quantize, input, backend);
    if (options.name == "linear")
        return chain.linear(input.outputs).build();
    if (options.name == "mlp")
        return make_mlp(std::move(chain), options, input.outputs);
    if (options.name == "cnn2")
        return make_cnn2(std::move(chain), input);
    throw InputError(fmt::format(R"(model.name: expected "linear", "mlp" or "cnn2", got "{}")", options.name));
}

}  // namespace dither
