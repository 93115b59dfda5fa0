// The compute interface: the few heavy operations of a network, behind one choice made at run time.
//
// A product is planned once for its largest batch and then run without allocation, lock or layout change. Linear layers
// and convolutions are both bilinear, y = x * w, so both are a Product and every layer with weights is written once.
#pragma once

#include "core/choice.hpp"
#include "core/tensor.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace dither {

struct ComputeOptions;

/// A 2-D convolution over NHWC images, zero padding, weights [kernel_h, kernel_w, in_channels, out_channels].
struct ConvGeometry {
    std::int64_t in_height = 0;
    std::int64_t in_width = 0;
    std::int64_t in_channels = 0;
    std::int64_t out_channels = 0;
    std::int64_t kernel = 3;  ///< square
    std::int64_t stride = 1;
    std::int64_t padding = 0;

    std::int64_t out_height() const { return (in_height + 2 * padding - kernel) / stride + 1; }
    std::int64_t out_width() const { return (in_width + 2 * padding - kernel) / stride + 1; }
    bool operator==(const ConvGeometry&) const = default;
};

/// y = x * w, bilinear, with its two adjoints. Every span is dense and row-major; `batch` is at most the planned one.
/// Owns its workspace, so one object serves one thread at a time. Deterministic: the same operands give the same bits.
class Product {
public:
    virtual ~Product() = default;

    /// y = x * w + bias; `bias` has one value for each output channel or is empty.
    virtual void forward(std::int64_t batch, std::span<const float> x, std::span<const float> w,
                         std::span<const float> bias, std::span<float> y) = 0;
    /// dx = dL/dx from dy = dL/dy.
    virtual void backward_input(std::int64_t batch, std::span<const float> dy, std::span<const float> w,
                                std::span<float> dx) = 0;
    /// dw = dL/dw, summed over the batch; overwritten, not added to.
    virtual void backward_weights(std::int64_t batch, std::span<const float> x, std::span<const float> dy,
                                  std::span<float> dw) = 0;
};

/// Makes products. Immutable after construction; may be shared by threads.
class Backend {
public:
    virtual ~Backend() = default;

    virtual std::string_view name() const = 0;
    /// The instruction set that really runs, for summary.json and --version: "avx2", "avx512", "baseline".
    virtual std::string_view instruction_set() const = 0;

    /// x: [batch, in], w: [in, out], y: [batch, out].
    virtual std::unique_ptr<Product> linear(std::int64_t in, std::int64_t out, std::int64_t max_batch) const = 0;
    /// x: [batch, in_height, in_width, in_channels], y: [batch, out_height, out_width, out_channels].
    virtual std::unique_ptr<Product> convolution(const ConvGeometry& geometry, std::int64_t max_batch) const = 0;
};

/// Throws InputError on an unknown name. To add a backend: one file in core/compute/ with a header that declares its
/// maker, its row in the table of backend.cpp and its line in CMake.
std::unique_ptr<Backend> make_backend(const ComputeOptions& options);
std::vector<Choice> backend_choices();

}  // namespace dither
