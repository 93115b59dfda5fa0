// Sums over windows of a framed image, and their tables. Private to core/compute.
#pragma once

#include "core/compute/backend.hpp"
#include "core/detail/kernels.hpp"
#include "core/tensor.hpp"

#include <vector>

namespace dither::detail {

/// An image in the middle of zeros.
class Frame {
public:
    /// `before` rows and columns of zeros above and to the left, the others below and to the right.
    Frame(std::int64_t height, std::int64_t width, std::int64_t channels, std::int64_t before,
          std::int64_t after_height, std::int64_t after_width);

    /// Where the framed image's value (y, x, 0) is.
    std::int64_t offset(std::int64_t y, std::int64_t x) const { return (y * framed_width_ + x) * channels_; }
    /// The framed image; the image itself where there are no zeros.
    const float* around(const float* image);

private:
    std::int64_t height_;
    std::int64_t row_;  ///< floats
    std::int64_t channels_;
    std::int64_t framed_width_;
    std::int64_t inside_;   ///< where the image starts
    AlignedFloats values_;  ///< empty where there are no zeros
};

/// Rows of channels, widened by zeros to whole registers where they do not fill them.
class WideRows {
public:
    WideRows(const Kernels& kernels, std::int64_t rows, std::int64_t channels);

    std::int64_t width() const { return width_; }
    /// Where to put rows of width() that narrow() then takes away: `rows` itself where nothing is widened.
    float* place(float* rows) { return values_.empty() ? rows : values_.data(); }
    void narrow(std::int64_t count, float* rows) const;
    /// Adds the placed rows to `rows`, where anything is widened.
    void add_narrowed(float* rows) const;
    void clear();
    /// `rows`, widened.
    const float* widen(const float* rows);

private:
    std::int64_t rows_;
    std::int64_t channels_;
    std::int64_t width_;
    AlignedFloats values_;  ///< empty where nothing is widened
};

/// The tables of a WindowProduct.
struct Windows {
    std::vector<std::int64_t> from;
    std::vector<std::int64_t> to;
    std::vector<std::int64_t> run_start;
    std::int64_t run = 0;
    std::int64_t channels = 0;

    WindowProduct product() const;
    std::int64_t rows() const { return static_cast<std::int64_t>(run_start.size()) * run; }
};

/// The frame of a convolution's image, and of its dy for the adjoint.
Frame image_frame(const ConvGeometry& geometry);
Frame gradient_frame(const ConvGeometry& geometry);

/// The windows of a convolution's output positions in image_frame. Runs are rows of the window, or single taps where
/// the convolution is depthwise. Results are rows of `width` floats.
Windows forward_windows(const ConvGeometry& geometry, const Frame& frame, std::int64_t width, bool depthwise);

/// The adjoint for the input is a convolution of dy with the flipped kernel; with stride s it is one for each of the
/// s * s phases of the input's positions, which see different taps.
struct AdjointPhase {
    Windows windows;                 ///< in gradient_frame
    std::vector<std::int64_t> taps;  ///< of the kernel, in the order of the runs
    AlignedFloats packed;            ///< for the weights in the order of the taps
};
std::vector<AdjointPhase> adjoint_phases(const ConvGeometry& geometry, const Frame& frame, std::int64_t width,
                                         bool depthwise);

}  // namespace dither::detail
