// A network: a chain of layers over one flat vector of parameters, with every buffer planned for the largest batch.
#pragma once

#include "core/compute/backend.hpp"
#include "core/layers/layer.hpp"
#include "core/model/schema.hpp"

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dither {

struct ModelOptions;
struct QuantizeOptions;

/// What a model is built for.
struct ModelInput {
    Shape sample;     ///< one item, batch extent 1
    int outputs = 0;  ///< classes, or regression outputs
    std::int64_t max_batch = 0;
};

/// Owns its parameters, gradients and buffers. Not thread-safe: one for each worker. Activations are planned at
/// construction and what quantization and noise need at the first pass that has them; no pass allocates after that.
class Model {
public:
    /// `layers[i]` takes what layers[i - 1] gives. Names come from kind and ordinal: "conv1", "conv2", "fc1".
    Model(std::vector<std::unique_ptr<Layer>> layers, const ModelInput& input);

    const Schema& schema() const { return schema_; }
    std::span<float> parameters() { return parameters_; }
    std::span<const float> parameters() const { return parameters_; }
    std::span<float> gradients() { return gradients_; }
    std::int64_t max_batch() const { return max_batch_; }

    /// Draws the parameters: U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weights and biases (LeCun et al. 1998; the default
    /// of PyTorch's layers).
    void initialize(std::uint32_t seed);

    /// x: [batch <= max_batch, ...]; returns the output, [batch, outputs], valid until the next forward.
    const Tensor& forward(const Tensor& x, const Pass& pass);
    /// Fills gradients() from d(loss)/d(output). x is that of the last forward.
    void backward(const Tensor& x, const Tensor& gradient, const Pass& pass);

    /// Layers forget their observed ranges and statistics: a new client, a new round.
    void reset();
    /// Adds what the layers measured since reset(), one entry for each layer of the schema.
    void report(std::span<LayerStatistics> statistics) const;

private:
    void plan_buffers();

    std::vector<std::unique_ptr<Layer>> layers_;
    std::vector<std::size_t> weighted_;  ///< the place in layers_ of each layer of the schema
    Schema schema_;
    std::int64_t max_batch_ = 0;
    AlignedFloats parameters_;
    AlignedFloats gradients_;
    std::vector<Tensor> outputs_;  ///< of each layer
    std::vector<Tensor> gradients_of_outputs_;
};

/// The models of the job file. linear: one linear layer. mlp: hidden layers with ReLU ([model] hidden). cnn2: conv 16
/// and 32 of 3x3 (padding 1), each with ReLU and 2x2 max pool, then linear 128, ReLU, linear. Throws InputError on an
/// unknown name or an input that the model cannot take. To add one: one file in
/// core/model/zoo/, its declaration in core/model/detail/chain.hpp, its row in the table of zoo.cpp and its line in
/// CMake.
std::unique_ptr<Model> make_model(const ModelOptions& options, const QuantizeOptions& quantize, const ModelInput& input,
                                  const Backend& backend);
std::vector<Choice> model_choices();

}  // namespace dither
