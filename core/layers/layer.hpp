// The layers of a network: forward and backward on whole batches, in planned buffers.
//
// To add a layer: one file in core/layers/ that implements Layer, with a header that declares its maker, its method in
// core/model/detail/chain.hpp and its line in CMake.
#pragma once

#include "core/noise/noise.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/statistics.hpp"
#include "core/rng.hpp"
#include "core/tensor.hpp"

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dither {

/// What the piecewise linear layers (ReLU, max pool) do about their branches. A network whose branches are held is
/// smooth, so that differences of its gradient measure its curvature and not how many branches a step happens to cross.
enum class Branches : std::uint8_t {
    free,    ///< as x says
    record,  ///< as x says, and remembered
    held,    ///< as at the last recorded pass
};

/// What a pass over the network needs beside its operands. Borrowed for the length of the call.
struct Pass {
    const PrecisionPlan* plan = nullptr;  ///< null: fp32 everywhere
    const Noise* noise = nullptr;         ///< null: none; used in training only
    StreamKey key;                        ///< seed, client, round and step of every random number of the pass
    Branches branches = Branches::free;
    bool training = false;  ///< observers learn, noise is injected, statistics are kept
    bool measure = false;   ///< also measure what costs a pass of its own: forward_error, backward_error
};

/// A tensor of parameters that a layer asks for.
struct ParameterSpec {
    std::string name;
    Shape shape;
    std::int64_t fan_in = 0;  ///< for initialization: weight and bias are U(-1/sqrt(fan_in), 1/sqrt(fan_in))
};

/// One layer, bound to its input shape and its largest batch at construction. It borrows its parameters and gradients
/// from the model, which keeps all of them in one flat vector. Not thread-safe.
///
/// x: [batch, ...] input, y: [batch, ...] output, dy and dx: dL/dy and dL/dx of the same shapes.
class Layer {
public:
    virtual ~Layer() = default;

    virtual std::string_view kind() const = 0;
    /// The shape of one item of the output, batch extent 1.
    virtual Shape output_shape() const = 0;
    virtual void forward(const Tensor& x, Tensor& y, const Pass& pass) = 0;
    /// Overwrites the layer's gradients and, unless null, dx. x and y are those of the last forward call.
    virtual void backward(const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx, const Pass& pass) = 0;

    /// Empty for a layer without parameters; the rest is called only where it is not.
    virtual std::vector<ParameterSpec> parameters() const { return {}; }
    virtual double macs() const { return 0; }  ///< of one sample's forward pass
    /// `index` is the layer's place in the schema and in the plan; the spans hold all its tensors, adjacent.
    virtual void attach(std::size_t index, std::span<float> values, std::span<float> gradients);
    /// Forgets observed ranges and statistics: a new client, a new round.
    virtual void reset() {}
    /// Adds what this layer measured since reset(): curvature and norms of parameters are others' business.
    virtual void report(LayerStatistics& statistics) const;
};

}  // namespace dither
