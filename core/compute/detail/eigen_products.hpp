// The products of the Eigen backend. Private to core/compute.
#pragma once

#include "core/compute/backend.hpp"
#include "core/compute/detail/eigen_windows.hpp"
#include "core/detail/kernels.hpp"

#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace dither::detail {

/// The kernels that this program was compiled for and this processor can run, slowest first; never empty.
std::vector<const Kernels*> usable_kernels();

/// Throw PreconditionError unless the operands of an operation fit the plan.
void check_operands(std::int64_t items, std::int64_t max_items, std::size_t x, std::int64_t in, std::size_t y,
                    std::int64_t out);
void check_weights(std::size_t w, std::int64_t expected);
void check_packed(bool packed, std::string_view pack);

/// Rows of x are windows of one run. Weights stay where they are, and are packed a panel of columns at a time where
/// those are multiplied: a large layer would else have them twice. That costs no more, since they serve one batch each
/// time.
class EigenLinear final : public Product {
public:
    EigenLinear(const Kernels& kernels, std::int64_t in, std::int64_t out, std::int64_t max_items);

    std::int64_t block() const override { return max_items_; }
    void pack_forward(std::span<const float> w) override;
    void forward(std::int64_t items, std::span<const float> x, std::span<float> y) override;
    void pack_backward(std::span<const float> w) override;
    void backward_input(std::int64_t items, std::span<const float> dy, std::span<float> dx) override;
    void add_weight_gradient(std::int64_t items, std::span<const float> x, std::span<const float> dy,
                             std::span<float> dw) override;

private:
    /// y = x * w, w: [depth, columns].
    struct Direction {
        WideRows rows;  ///< of y
        Windows windows;
        std::int64_t columns;
        std::int64_t panel_columns;
        const float* weights = nullptr;  ///< borrowed; those of the way back are [columns, depth]

        Direction(const Kernels& kernels, std::int64_t depth, std::int64_t columns, std::int64_t max_items);
        std::size_t panel_floats() const { return static_cast<std::size_t>(windows.run * panel_columns); }
        /// pack(first, count) puts so many columns into `panel`.
        template <typename Pack>
        void multiply(const Kernels& kernels, std::int64_t items, const float* x, const float* panel, float* y,
                      Pack pack);
    };

    const Kernels& kernels_;
    std::int64_t in_;
    std::int64_t out_;
    std::int64_t max_items_;
    Direction forward_;
    Direction backward_;
    AlignedFloats panel_;  ///< scratch
};

/// One image at a time, so that it stays in the second-level cache. One group.
class EigenConvolution final : public Product {
public:
    EigenConvolution(const Kernels& kernels, const ConvGeometry& geometry, std::int64_t max_items);

    std::int64_t block() const override { return 1; }
    void pack_forward(std::span<const float> w) override;
    void forward(std::int64_t items, std::span<const float> x, std::span<float> y) override;
    void pack_backward(std::span<const float> w) override;
    void backward_input(std::int64_t items, std::span<const float> dy, std::span<float> dx) override;
    void add_weight_gradient(std::int64_t items, std::span<const float> x, std::span<const float> dy,
                             std::span<float> dw) override;

    /// Whether the sparse adjoints are the faster ones for one image's dy.
    bool sparse(const float* dy) const;

private:
    void image_gradient(const float* dy, float* dx);
    void add_dense_gradient(const float* x, const float* dy, float* dw);

    const Kernels& kernels_;
    PatchGeometry geometry_;
    std::int64_t image_;      ///< values of an image
    std::int64_t positions_;  ///< of the kernel
    std::int64_t taps_;
    std::int64_t channels_;
    std::int64_t max_items_;
    WideRows results_;
    WideRows images_;
    WideRows gradients_;  ///< of the weights
    Frame image_frame_;
    Frame gradient_frame_;
    Windows windows_;
    AlignedFloats packed_;
    std::vector<AdjointPhase> phases_;
    AlignedFloats flipped_;              ///< scratch: a phase's weights, [taps, out_channels, in_channels]
    AlignedFloats transposed_weights_;   ///< of the backward pass, output channels first
    AlignedFloats transposed_gradient_;  ///< scratch
    AlignedFloats padded_;               ///< scratch of the sparse adjoints
    bool forward_packed_ = false;
    bool backward_packed_ = false;
};

/// As many groups as channels.
class EigenDepthwise final : public Product {
public:
    EigenDepthwise(const Kernels& kernels, const ConvGeometry& geometry, std::int64_t max_items);

    std::int64_t block() const override { return 1; }
    void pack_forward(std::span<const float> w) override;
    void forward(std::int64_t items, std::span<const float> x, std::span<float> y) override;
    void pack_backward(std::span<const float> w) override;
    void backward_input(std::int64_t items, std::span<const float> dy, std::span<float> dx) override;
    void add_weight_gradient(std::int64_t items, std::span<const float> x, std::span<const float> dy,
                             std::span<float> dw) override;

private:
    const Kernels& kernels_;
    std::int64_t in_;
    std::int64_t out_;
    std::int64_t channels_;
    std::int64_t max_items_;
    Frame image_frame_;
    Frame gradient_frame_;
    Windows windows_;
    AlignedFloats packed_;
    std::vector<AdjointPhase> phases_;
    bool forward_packed_ = false;
    bool backward_packed_ = false;
};

/// Any other number of groups: a convolution for each, on copies of its channels, one image at a time.
class GroupedConvolution final : public Product {
public:
    GroupedConvolution(const Kernels& kernels, const ConvGeometry& geometry, std::int64_t max_items);

    std::int64_t block() const override { return 1; }
    void pack_forward(std::span<const float> w) override;
    void forward(std::int64_t items, std::span<const float> x, std::span<float> y) override;
    void pack_backward(std::span<const float> w) override;
    void backward_input(std::int64_t items, std::span<const float> dy, std::span<float> dx) override;
    void add_weight_gradient(std::int64_t items, std::span<const float> x, std::span<const float> dy,
                             std::span<float> dw) override;

private:
    /// Rows of `channels` values, of which a group has an equal part.
    struct Rows {
        std::int64_t count;
        std::int64_t channels;
        std::int64_t values() const { return count * channels; }
    };
    void take(const Rows& rows, std::size_t group, const float* from, AlignedFloats& part) const;
    void put(const Rows& rows, std::size_t group, const AlignedFloats& part, float* to) const;
    void pack(std::span<const float> w, void (Product::*pack_group)(std::span<const float>));

    Rows image_;
    Rows result_;
    Rows weights_;
    std::int64_t max_items_;
    std::vector<std::unique_ptr<EigenConvolution>> groups_;  ///< each packs its weights from group_weights_ at once
    AlignedFloats group_image_;
    AlignedFloats group_result_;
    AlignedFloats group_weights_;
};

}  // namespace dither::detail
