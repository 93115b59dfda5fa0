// The compute interface: the few heavy operations of a network, behind one choice made at run time.
//
// A product is planned once for its largest batch and then run without allocation or lock. Linear layers and
// convolutions are both bilinear, y = x * w, so both are a Product, on floats, or an IntegerProduct, on integer codes,
// and every layer with weights is written once.
#pragma once

#include "core/choice.hpp"
#include "core/compute/integer.hpp"
#include "core/tensor.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace dither {

struct ComputeOptions;

/// A 2-D convolution over NHWC images, zero padding, weights [kernel, kernel, in_channels / groups, out_channels].
/// Output channel o belongs to group o / (out_channels / groups) and sees that group's input channels alone; as many
/// groups as channels is a depthwise convolution.
struct ConvGeometry {
    std::int64_t in_height = 0;
    std::int64_t in_width = 0;
    std::int64_t in_channels = 0;
    std::int64_t out_channels = 0;
    std::int64_t kernel = 3;  ///< square
    std::int64_t stride = 1;
    std::int64_t padding = 0;
    std::int64_t groups = 1;  ///< divides both numbers of channels

    std::int64_t out_height() const { return (in_height + 2 * padding - kernel) / stride + 1; }
    std::int64_t out_width() const { return (in_width + 2 * padding - kernel) / stride + 1; }
    /// Input values that one output value is made of.
    std::int64_t fan_in() const { return kernel * kernel * in_channels / groups; }
    /// Throws PreconditionError unless every extent is positive, the groups divide and the kernel fits.
    void check() const;
    bool operator==(const ConvGeometry&) const = default;
};

/// y = x * w, bilinear, with its two adjoints. Every span is dense and row-major; `items` (of the batch) is at most the
/// planned number. Weights are packed once a step, for each direction apart, and hold until they are packed again;
/// until then they must stay as and where they are, since a product may pack parts of them when it needs these. Owns
/// its workspace, so one object serves one thread at a time. Deterministic: the same operands give the same bits, and
/// those of an item do not depend on the items beside it.
class Product {
public:
    virtual ~Product() = default;

    /// The items that a caller should give at a time, so that operands and result stay in the caches.
    virtual std::int64_t block() const = 0;
    virtual void pack_forward(std::span<const float> w) = 0;
    /// y = x * w.
    virtual void forward(std::int64_t items, std::span<const float> x, std::span<float> y) = 0;
    virtual void pack_backward(std::span<const float> w) = 0;
    /// dx = dL/dx from dy = dL/dy.
    virtual void backward_input(std::int64_t items, std::span<const float> dy, std::span<float> dx) = 0;
    /// dw += dL/dw, summed over the items.
    virtual void add_weight_gradient(std::int64_t items, std::span<const float> x, std::span<const float> dy,
                                     std::span<float> dw) = 0;
};

/// Makes products. Immutable after construction; may be shared by threads.
class Backend {
public:
    virtual ~Backend() = default;

    virtual std::string_view name() const = 0;
    /// The instruction set that really runs, for summary.json and --version: "avx2", "avx512", "baseline".
    virtual std::string_view instruction_set() const = 0;

    /// x: [items, in], w: [in, out], y: [items, out].
    virtual std::unique_ptr<Product> linear(std::int64_t in, std::int64_t out, std::int64_t max_items) const = 0;
    /// x: [items, in_height, in_width, in_channels], y: [items, out_height, out_width, out_channels].
    virtual std::unique_ptr<Product> convolution(const ConvGeometry& geometry, std::int64_t max_items) const = 0;

    /// The same for operands that are bfloat16 values, on units that multiply these; sums are fp32. Null where this
    /// processor has no such units, or no faster ones.
    virtual std::unique_ptr<Product> bfloat_convolution(const ConvGeometry& geometry, std::int64_t max_items) const;

    /// The same on integer codes. Exact, so every backend gives the same bits.
    virtual std::unique_ptr<IntegerProduct> integer_linear(std::int64_t in, std::int64_t out,
                                                           std::int64_t max_items) const;
    virtual std::unique_ptr<IntegerProduct> integer_convolution(const ConvGeometry& geometry,
                                                                std::int64_t max_items) const;
};

/// Throws InputError on an unknown name. To add a backend: one file in core/compute/ with a header that declares its
/// maker, its row in the table of backend.cpp and its line in CMake.
std::unique_ptr<Backend> make_backend(const ComputeOptions& options);
std::vector<Choice> backend_choices();

}  // namespace dither
