// Builds a chain of layers, and declares the models that are built with it; make_model chooses. Private to core/model.
#pragma once

#include "core/config.hpp"
#include "core/layers/pool.hpp"
#include "core/model/model.hpp"

#include <functional>

namespace dither {

struct ConvOptions {
    std::int64_t kernel = 3;
    std::int64_t stride = 1;
    std::int64_t padding = 1;
    std::int64_t groups = 1;
    bool bias = true;
};

/// Appends layers to a chain; each takes the shape that the one before gives. Borrows what it is constructed from.
/// Layers throw PreconditionError on a shape that they cannot take.
class Chain {
public:
    /// Appends one way through a residual block.
    using Way = std::function<void(Chain&)>;

    Chain(const ModelOptions& options, const QuantizeOptions& quantize, const ModelInput& input, const Backend& backend)
        : options_(options),
          quantize_(quantize),
          input_(input),
          backend_(backend),
          shape_(input.sample.with_batch(1)) {}

    const ModelInput& input() const { return input_; }
    /// Of one item of what the chain gives so far, batch extent 1.
    const Shape& shape() const { return shape_; }

    Chain& linear(std::int64_t out, bool bias = true);
    Chain& conv(std::int64_t channels, const ConvOptions& options = {});
    Chain& relu();
    Chain& relu6();
    Chain& tanh();
    Chain& hard_tanh();
    Chain& max_pool(const PoolWindow& window = {});
    Chain& average_pool(const PoolWindow& window = {});
    Chain& global_pool();
    /// With the statistics of model.norm_statistics.
    Chain& batch_norm();
    Chain& group_norm(std::int64_t groups);
    Chain& dropout(double rate);
    /// body(x) + shortcut(x); without a shortcut, or where it appends nothing, body(x) + x.
    Chain& residual(const Way& body, const Way& shortcut = {});

    std::unique_ptr<Model> build() { return std::make_unique<Model>(std::move(layers_), input_); }

private:
    Chain& add(std::unique_ptr<Layer> layer);
    template <typename Make>
    std::unique_ptr<Layer> quantized(const std::string& name, const Make& make) const;
    /// Whether the last layer takes the next one into its own pass.
    bool absorbed(Tail tail);
    std::unique_ptr<Layer> way_through(const Way& way);

    const ModelOptions& options_;
    const QuantizeOptions& quantize_;
    const ModelInput& input_;
    const Backend& backend_;
    Shape shape_;
    /// Layers of a kind so far, of the ways within residual blocks too.
    struct Counts {
        std::uint32_t dropouts = 0;
        std::uint32_t linears = 0;
        std::uint32_t convolutions = 0;
    };
    Counts counts_;
    std::vector<std::unique_ptr<Layer>> layers_;
};

/// Throws InputError unless samples are images whose height and width are multiples of `divisor`.
void require_images(const ModelInput& input, std::string_view model, std::int64_t divisor);

std::unique_ptr<Model> make_linear_model(Chain& chain, const ModelOptions& options);
std::unique_ptr<Model> make_mlp(Chain& chain, const ModelOptions& options);
std::unique_ptr<Model> make_cnn2(Chain& chain, const ModelOptions& options);
std::unique_ptr<Model> make_cnn4(Chain& chain, const ModelOptions& options);
std::unique_ptr<Model> make_resnet8(Chain& chain, const ModelOptions& options);
std::unique_ptr<Model> make_mobilenet(Chain& chain, const ModelOptions& options);
/// model.layers, one after the other.
std::unique_ptr<Model> make_described_model(Chain& chain, const ModelOptions& options);

}  // namespace dither
