// The layers of a network: forward and backward on whole batches.
//
// To add a layer: one file in core/layers/ that implements Layer, with a header that declares its maker, its method in
// core/model/detail/chain.hpp, its row in core/model/described.cpp and its line in CMake.
#pragma once

#include "core/noise/noise.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/statistics.hpp"
#include "core/quantize/quantizer.hpp"
#include "core/rng.hpp"
#include "core/tensor.hpp"

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dither {

class Lowering;

/// What the piecewise linear layers (ReLU, max pool) do about their branches. A network whose branches are held is
/// smooth, so that differences of its gradient measure its curvature and not how many branches a step happens to cross.
enum class Branches : std::uint8_t {
    free,    ///< as x says
    record,  ///< as x says, and remembered
    held,    ///< as at the last recorded pass
};

/// What may follow a layer with weights within one pass over its results.
enum class Tail : std::uint8_t { relu, max_pool };  ///< max_pool: windows of 2x2, side by side

/// The operands of one layer's product as a forward pass has them before they are quantized, noise included. Borrowed
/// for the length of the call.
struct Operands {
    std::size_t layer = 0;           ///< place in the schema
    std::span<const float> weights;  ///< [.., output channels]
    QuantLayout weight_layout;
    std::span<const float> inputs;  ///< [batch, .., channels]
    QuantLayout input_layout;
};
using OperandVisitor = std::function<void(const Operands&)>;

/// What a pass over the network needs beside its operands. Borrowed for the length of the call.
struct Pass {
    const PrecisionPlan* plan = nullptr;       ///< null: fp32 everywhere
    NoisePass noise;                           ///< used in training only
    const OperandVisitor* operands = nullptr;  ///< null: nobody looks at the operands of the products
    StreamKey key;                             ///< seed, client, round and step of every random number of the pass
    Branches branches = Branches::free;
    bool training = false;   ///< observers learn, noise is injected, statistics are kept
    bool calibrate = false;  ///< observers learn, and nothing else of `training` happens
    float loss_scale = 1;    ///< what the loss's gradient was multiplied by (train.loss_scale)
    bool measure = false;    ///< also measure what costs a pass of its own: forward_error, backward_error
    bool keep = true;        ///< a backward pass follows: the layers keep what it needs
    Arena* arena = nullptr;  ///< where activations live; set by the model
};

/// Of what a layer's output is an affine function in fp32 while branches are held: where all layers behind some
/// parameters are, the network's output is affine in those, and its derivative a plain difference.
struct Affinity {
    bool input = false;       ///< of x, at given parameters
    bool parameters = false;  ///< of the layer's own trained parameters, at a given x
};

/// A tensor of parameters that a layer asks for.
struct ParameterSpec {
    std::string name;
    Shape shape;
    std::int64_t fan_in = 0;  ///< for initialization: weight and bias are U(-1/sqrt(fan_in), 1/sqrt(fan_in))
    float constant = 0;       ///< initial value where fan_in is 0
    bool trained = true;      ///< false: no optimizer's business; the layer writes it itself and gives no gradient
    bool range = false;       ///< a learned range: of another size than weights, it is a layer of its own in the schema
};

/// One layer, bound to its input shape and its largest batch at construction. It borrows its parameters and gradients
/// from the model, which keeps all of them in one flat vector. Not thread-safe.
///
/// Tensors change hands: a layer owns the input that it is given, so it may work in place where it is the only owner
/// (Tensor::unique), keep it for the backward pass, or keep less (codes, a mask) and let the memory go. What it returns
/// is the caller's. x: [batch, ...] input, y: [batch, ...] output, dy and dx: dL/dy and dL/dx of the same shapes.
class Layer {
public:
    virtual ~Layer() = default;

    virtual std::string_view kind() const = 0;
    /// The shape of one item of the output, batch extent 1.
    virtual Shape output_shape() const = 0;
    /// Returns y.
    virtual Tensor forward(Tensor x, const Pass& pass) = 0;
    /// Overwrites the layer's gradients and returns dx, or an empty tensor where none is `wanted`. Follows a forward
    /// call that kept what is needed, with the same plan; what was kept is let go.
    virtual Tensor backward(Tensor dy, const Pass& pass, bool wanted) = 0;

    /// Empty for a layer without parameters; the rest is called only where it is not.
    virtual std::vector<ParameterSpec> parameters() const { return {}; }
    virtual double macs() const { return 0; }         ///< of one sample's forward pass
    virtual double kept_inputs() const { return 0; }  ///< values of one sample's input, for the backward pass
    virtual Affinity affinity() const { return {}; }
    /// `index` is the layer's place in the schema and in the plan; the spans hold all its tensors, adjacent.
    virtual void attach(std::size_t index, std::span<float> values, std::span<float> gradients);
    /// Forgets observed ranges and statistics: a new client, a new round.
    virtual void reset() {}
    /// Adds what this layer measured since reset(): curvature and norms of parameters are others' business.
    virtual void report(LayerStatistics& statistics) const;

    /// Calls visitor for every layer within, in the order of the forward pass: a layer that is made of others visits
    /// those and not itself, and does nothing between them that is not affine while branches are held.
    virtual void visit(const std::function<void(Layer&)>& visitor) { visitor(*this); }
    /// Takes the layer that would follow into its own pass, where it can: one pass over the values less. False: it
    /// stays a layer of its own.
    virtual bool absorb(Tail) { return false; }
    /// Appends what the layer does in inference, with what it absorbed, as steps of an integer model. Throws InputError
    /// where there is no such form, which is the default.
    virtual void lower(Lowering& out);
};

/// The tensor to write a result of x's values into: x itself where nobody else sees it, else new memory.
Tensor in_place_of(Tensor& x, const Pass& pass);

}  // namespace dither
