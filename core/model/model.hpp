// A network: a chain of layers over one flat vector of parameters, and the arena that its activations live in.
#pragma once

#include "core/compute/backend.hpp"
#include "core/layers/sequential.hpp"
#include "core/model/schema.hpp"
#include "core/untouched_floats.hpp"

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

/// Owns its parameters, gradients and the arena of its activations; its layers borrow the backend that they were made
/// with, which must outlive it. Not thread-safe: one for each worker. What a step needs is found in the first one; no
/// later step with the same plan and batch allocates.
class Model {
public:
    /// `layers[i]` takes what layers[i - 1] gives. Names come from kind and ordinal, in the order of the forward pass:
    /// "conv1", "conv2", "fc1". The learned ranges of a layer are an entry of the schema of their own, "conv1_range",
    /// without products: what is sized for weights (grids, norms) would not suit them.
    Model(std::vector<std::unique_ptr<Layer>> layers, const ModelInput& input);

    const Schema& schema() const { return schema_; }
    /// Whether the output is an affine function of the trained parameters of layer `index` of the schema, all others
    /// and the branches held, in fp32: whether all that follows the layer is affine (Layer::affinity).
    bool affine_in(std::size_t index) const { return affine_[index]; }
    std::span<float> parameters() { return parameters_; }
    std::span<const float> parameters() const { return parameters_; }
    std::span<float> gradients() { return gradients_.values(); }
    std::int64_t max_batch() const { return max_batch_; }
    const Shape& sample_shape() const { return sample_; }  ///< one item, batch extent 1
    Shape output_shape() const { return network_.output_shape(); }

    /// Draws the parameters: U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weights and biases (LeCun et al. 1998; the default
    /// of PyTorch's layers).
    void initialize(std::uint32_t seed);

    /// x: [batch <= max_batch, ...]; returns the output, [batch, outputs], in the model's arena.
    Tensor forward(const Tensor& x, const Pass& pass);
    /// Fills gradients() from d(loss)/d(output) of the last forward, which had the same pass. The gradient is used up.
    /// Throws PreconditionError where no forward pass kept what is needed since the last backward pass.
    void backward(Tensor gradient, const Pass& pass);
    /// Memory for what lives as long as a step: the gradient of the output, for one.
    Arena& arena() { return arena_; }

    /// Layers forget their observed ranges and statistics: a new client, a new round.
    void reset();
    /// Adds what the layers measured since reset(), one entry for each layer of the schema; ranges measure nothing.
    void report(std::span<LayerStatistics> statistics) const;
    /// Appends what the network does in inference (core/inference/lowering.hpp).
    void lower(Lowering& out) { network_.lower(out); }

private:
    void find_affine_parts();
    Pass inner(const Pass& pass);

    Arena arena_;  ///< outlives the layers, which keep memory of it
    Sequential network_;
    /// A layer with parameters, and where the schema has it.
    struct Part {
        Layer* layer = nullptr;
        std::size_t index = 0;  ///< of its first entry; its learned ranges follow as an entry of their own
        std::size_t entries = 1;
    };
    std::vector<Part> parts_;
    Schema schema_;
    std::vector<bool> affine_;  ///< one for each layer of the schema
    Shape sample_;
    std::int64_t max_batch_ = 0;
    bool kept_ = false;  ///< a backward pass may follow
    AlignedFloats parameters_;
    UntouchedFloats gradients_;  ///< who only evaluates has none
};

/// The models of the job file (README.md has their layers and sizes): linear, mlp (widths model.hidden), cnn2, cnn4,
/// resnet8, mobilenet, and "layers", those of [[model.layers]].
/// The model borrows `backend`, which must outlive it. Throws InputError on an unknown name or an input that the model
/// cannot take. To add one: one file in core/model/zoo/, its declaration in core/model/detail/chain.hpp, its row in the
/// table of zoo.cpp and its line in CMake.
std::unique_ptr<Model> make_model(const ModelOptions& options, const QuantizeOptions& quantize, const ModelInput& input,
                                  const Backend& backend);
std::vector<Choice> model_choices();

}  // namespace dither
