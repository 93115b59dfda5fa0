#include "core/compute/detail/eigen_windows.hpp"

#include <algorithm>

namespace dither::detail {
namespace {

/// Zeros that the last window needs below an image; none where the stride leaves rows over.
std::int64_t zeros_after(const ConvGeometry& g, std::int64_t in, std::int64_t out) {
    return std::max<std::int64_t>(0, (out - 1) * g.stride + g.kernel - g.padding - in);
}

/// Zeros below dy: input positions whose taps lie beyond the last window.
std::int64_t adjoint_zeros_after(const ConvGeometry& g, std::int64_t in, std::int64_t out) {
    return std::max<std::int64_t>(0, (in - 1 + g.padding) / g.stride - (out - 1));
}

/// Taps of a kernel that the positions of one phase see in one dimension: phase, phase + stride, ...
std::int64_t taps_of(const ConvGeometry& g, std::int64_t phase) {
    return phase < g.kernel ? (g.kernel - phase - 1) / g.stride + 1 : 0;
}

/// Zeros above dy.
std::int64_t adjoint_zeros_before(const ConvGeometry& g) {
    return taps_of(g, 0) - 1;
}

// Input row y sees tap k from output row o where o * stride + k = y + padding. With phase f = (y + padding) mod stride
// and u = (y + padding) / stride, those are the taps f + m * stride, from the output rows u - m.
AdjointPhase adjoint_phase(const ConvGeometry& g, const Frame& frame, std::int64_t width, bool depthwise,
                           std::int64_t phase_y, std::int64_t phase_x) {
    const std::int64_t before = adjoint_zeros_before(g);
    const std::int64_t taps_x = taps_of(g, phase_x);
    AdjointPhase phase;
    phase.windows.channels = width;
    phase.windows.run = depthwise ? 1 : taps_x * g.out_channels;
    for (std::int64_t m = 0; m < taps_of(g, phase_y); ++m)
        for (std::int64_t n = taps_x - 1; n >= 0; --n) {
            phase.taps.push_back((phase_y + m * g.stride) * g.kernel + phase_x + n * g.stride);
            if (depthwise || n == taps_x - 1)
                phase.windows.run_start.push_back(frame.offset(before - m, before - n));
        }
    for (std::int64_t y = 0; y < g.in_height; ++y)
        for (std::int64_t x = 0; x < g.in_width; ++x)
            if ((y + g.padding) % g.stride == phase_y && (x + g.padding) % g.stride == phase_x) {
                phase.windows.from.push_back(frame.offset((y + g.padding) / g.stride, (x + g.padding) / g.stride));
                phase.windows.to.push_back((y * g.in_width + x) * width);
            }
    const std::int64_t tap_rows = depthwise ? 1 : g.out_channels;
    phase.packed.resize(phase.taps.size() * static_cast<std::size_t>(tap_rows * width));
    return phase;
}

}  // namespace

Frame::Frame(std::int64_t height, std::int64_t width, std::int64_t channels, std::int64_t before,
             std::int64_t after_height, std::int64_t after_width)
    : height_(height),
      row_(width * channels),
      channels_(channels),
      framed_width_(before + width + after_width),
      inside_(offset(before, before)) {
    if (before + after_height + after_width > 0)
        values_.resize(static_cast<std::size_t>(offset(before + height + after_height, 0)));
}

const float* Frame::around(const float* image) {
    if (values_.empty())
        return image;
    for (std::int64_t y = 0; y < height_; ++y)
        std::copy_n(image + y * row_, row_, values_.data() + inside_ + offset(y, 0));
    return values_.data();
}

WideRows::WideRows(const Kernels& kernels, std::int64_t rows, std::int64_t channels)
    : rows_(rows), channels_(channels), width_((channels + kernels.vector - 1) / kernels.vector * kernels.vector) {
    if (width_ != channels_)
        values_.resize(static_cast<std::size_t>(rows * width_));
}

void WideRows::narrow(std::int64_t count, float* rows) const {
    for (std::int64_t r = 0; r < count && !values_.empty(); ++r)
        std::copy_n(values_.data() + r * width_, channels_, rows + r * channels_);
}

void WideRows::add_narrowed(float* rows) const {
    for (std::int64_t r = 0; r < rows_ && !values_.empty(); ++r)
        for (std::int64_t c = 0; c < channels_; ++c)
            rows[r * channels_ + c] += values_[static_cast<std::size_t>(r * width_ + c)];
}

void WideRows::clear() {
    std::ranges::fill(values_, 0.0F);
}

const float* WideRows::widen(const float* rows) {
    for (std::int64_t r = 0; r < rows_ && !values_.empty(); ++r)
        std::copy_n(rows + r * channels_, channels_, values_.data() + r * width_);
    return values_.empty() ? rows : values_.data();
}

WindowProduct Windows::product() const {
    return {.positions = static_cast<std::int64_t>(from.size()),
            .from = from.data(),
            .to = to.data(),
            .runs = static_cast<std::int64_t>(run_start.size()),
            .run_start = run_start.data(),
            .run = run,
            .channels = channels};
}

Frame image_frame(const ConvGeometry& g) {
    return {g.in_height,
            g.in_width,
            g.in_channels,
            g.padding,
            zeros_after(g, g.in_height, g.out_height()),
            zeros_after(g, g.in_width, g.out_width())};
}

Frame gradient_frame(const ConvGeometry& g) {
    return {g.out_height(),
            g.out_width(),
            g.out_channels,
            adjoint_zeros_before(g),
            adjoint_zeros_after(g, g.in_height, g.out_height()),
            adjoint_zeros_after(g, g.in_width, g.out_width())};
}

Windows forward_windows(const ConvGeometry& g, const Frame& frame, std::int64_t width, bool depthwise) {
    Windows windows;
    windows.run = depthwise ? 1 : g.kernel * g.in_channels;
    windows.channels = width;
    for (std::int64_t y = 0; y < g.out_height(); ++y)
        for (std::int64_t x = 0; x < g.out_width(); ++x) {
            windows.from.push_back(frame.offset(y * g.stride, x * g.stride));
            windows.to.push_back((y * g.out_width() + x) * width);
        }
    for (std::int64_t k = 0; k < g.kernel; ++k)
        for (std::int64_t l = 0; l < (depthwise ? g.kernel : 1); ++l)
            windows.run_start.push_back(frame.offset(k, l));
    return windows;
}

std::vector<AdjointPhase> adjoint_phases(const ConvGeometry& g, const Frame& frame, std::int64_t width,
                                         bool depthwise) {
    std::vector<AdjointPhase> phases;
    for (std::int64_t y = 0; y < g.stride; ++y)
        for (std::int64_t x = 0; x < g.stride; ++x)
            phases.push_back(adjoint_phase(g, frame, width, depthwise, y, x));
    return phases;
}

}  // namespace dither::detail
