// Ranges that are trained with the weights: LSQ, LSQ+ and PACT.
//
// LSQ (Esser et al., "Learned step size quantization", ICLR 2020): x^ = s clamp(round(x / s), low, high), with
//     dx^/ds = round(x/s) - x/s inside, low or high outside, times gamma = 1 / sqrt(n high), n values sharing s
// LSQ+ (Bhalgat et al., "LSQ+: improving low-bit quantization through learnable offsets", CVPR workshops 2020) learns
// the zero point too, here as the share of the codes that stand for negative values, z = round(share (2^b - 1)):
//     dx^/d(share) = 0 inside, -(2^b - 1) s outside
// PACT (Choi et al., "PACT: parameterized clipping activation for quantized neural networks", 2018) learns the clip
// alpha of values >= 0, s = alpha / high:
//     dx^/d(alpha) = 1 where x > alpha, 0 elsewhere
//
// A range is kept as t = log2(2 * mean magnitude) (lsq, lsq_plus: s = 2^t / sqrt(high), which is LSQ's initial step for
// that magnitude) or t = log2(alpha) (pact): it stays positive, means the same at every width, so that a plan may
// change the bits, and loses nothing on a grid made for weights. The gradient handed on, gamma dL/ds / (s ln 2), is
// scaled so that a step of SGD changes s, to first order, as it would if s itself were the parameter; that of a share
// likewise for the offset (2^b - 1) s share. Both are kept within +-1: training from scratch starts with gradients that
// would move s by many powers of two at once, and then ends at 0 or at infinity. t = 0 stands for "not set yet": the
// first training pass sets it from its tensor. With options.power_of_two the step is the next power of two and the
// gradient is taken as if it were s (Jain et al., "Trained quantization thresholds", MLSys 2020).
#pragma once

#include "core/quantize/quantizer.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace dither {

/// The learned range of one operand of a layer. Parameters and gradients belong to the model. Not thread-safe. Plans
/// its memory on first use.
class LearnedRange {
public:
    /// `options.observer` is learned; per_tensor has one range, per_channel `channels` of them. Throws InputError on
    /// another granularity, and on lsq_plus or pact with a symmetric scheme. affine: lsq uses the codes 0 .. 2^b - 1
    /// for a tensor without negative values and -2^(b-1) .. 2^(b-1) - 1 (zero point 2^(b-1)) for another one; pact
    /// 0 .. 2^b - 1 always.
    LearnedRange(const QuantizerOptions& options, std::size_t channels);

    /// The parameters it needs: one for each range, and for lsq_plus as many shares after them.
    std::size_t parameters() const;
    /// Both have parameters() values and outlive this.
    void attach(std::span<float> values, std::span<float> gradients);

    /// The grid for `bits` (2 .. 16, an integer width), one entry for each range, to be given to Quantizer::set_grid.
    /// Ranges that are not set are found from x; with `training` that is kept. Where x is zero everywhere a range stays
    /// unset, with scale 1. pact starts at the largest value or, if less, at 8 times the mean: what a rectified normal
    /// variable exceeds once in a thousand. Throws TrainingError where a range or the x that is looked at is not
    /// finite, or a parameter left -100 .. 100.
    std::span<const ScaleZero> grid(std::span<const float> x, const QuantLayout& layout, int bits, bool training);
    /// Overwrites the gradients from dy = dL/dx^ at every value of x, clipped ones included, for the last grid, whose x
    /// and layout these must be.
    /// `loss_scale` is in dy: the bound on a gradient is that of the unscaled one.
    void backward(std::span<const float> x, std::span<const float> dy, const QuantLayout& layout, float loss_scale = 1);
    /// Forgets whether values were negative: a new client, a new round.
    void reset() { negative_ = false; }

private:
    void initialize(std::span<const float> x);
    /// The largest code counted from zero, as t is measured in.
    int largest_code() const;
    float step(std::size_t range) const;
    ScaleZero choose(std::size_t range) const;
    void sum_terms(std::span<const float> x, std::span<const float> dy);
    void sum_columns(std::span<const float> x, std::span<const float> dy);
    /// dL/ds and dL/d(offset) of the sums.
    double step_gradient(std::size_t range) const;
    double offset_gradient(std::size_t range) const;

    QuantizerOptions options_;
    std::size_t ranges_;
    std::span<float> values_;
    std::span<float> gradients_;
    std::vector<float> current_;  ///< parameters of the last grid, found from its tensor where they are not set
    std::vector<ScaleZero> grid_;
    std::vector<float> columns_;  ///< per_channel: the grid of each column, side by side for the kernels
    std::vector<ClipRange> clip_;
    std::vector<double> sums_;  ///< of inside, below and above, one of each for each range
    std::vector<double> column_sums_;
    bool negative_ = false;  ///< a tensor since reset() had negative values, in a scheme where that matters
    int bits_ = 8;
};

}  // namespace dither
