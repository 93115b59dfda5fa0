// The observers that look for a range inside the extremes: percentiles and the least squared error.
#include "core/quantize/detail/grids.hpp"
#include "core/quantize/detail/kernels.hpp"
#include "core/quantize/quantizer.hpp"

#include <algorithm>
#include <cmath>

namespace dither {
namespace {

/// mse tries the extremes times 40/40, 39/40, ... 8/40.
constexpr int kCandidates = 40;
constexpr int kFewestCandidates = 8;

/// How many of n values are at most the percentile: nearest rank, 1 to n.
std::size_t rank_of(double percentile, std::size_t n) {
    // Percentages are not exact in binary: 99.9% of 1000 values are 999.
    const double rank = std::ceil(percentile / 100 * static_cast<double>(n) * (1 - 1e-12));
    return std::clamp<std::size_t>(static_cast<std::size_t>(rank), 1, n);
}

ClipRange shrunk(const ClipRange& range, int candidate) {
    const float factor = static_cast<float>(candidate) / kCandidates;
    return {factor * range.low, factor * range.high};
}

}  // namespace

void Quantizer::cut_percentile(std::span<const float> x) {
    const auto [blocks, block, channels] = partition_;
    const std::size_t count = channels == 0 ? 0 : block / channels;
    if (count == 0)
        return;
    const std::size_t rank = rank_of(options_.percentile, count);
    gathered_.resize(count);
    for (std::size_t g = 0; g < measured_.size(); ++g) {
        const float* first = x.data() + g / channels * block + g % channels;
        for (std::size_t i = 0; i < count; ++i)
            gathered_[i] = first[i * channels];
        const auto high = gathered_.begin() + static_cast<std::ptrdiff_t>(rank - 1);
        const auto low = gathered_.begin() + static_cast<std::ptrdiff_t>(count - rank);
        std::nth_element(gathered_.begin(), high, gathered_.end());
        const float highest = *high;
        std::nth_element(gathered_.begin(), low, high + 1);
        const ClipRange cut{std::min(*low, 0.0F), std::max(highest, 0.0F)};
        if (cut.low < cut.high)
            measured_[g] = cut;
    }
}

void Quantizer::cut_for_least_error(std::span<const float> x) {
    const auto [blocks, block, channels] = partition_;
    extremes_ = measured_;
    least_errors_.assign(measured_.size(), 0.0);
    for (int candidate = kCandidates; candidate >= kFewestCandidates; --candidate) {
        const auto keep = [&](std::size_t group, double error) {
            if (candidate < kCandidates && !(error < least_errors_[group]))
                return;
            least_errors_[group] = error;
            measured_[group] = shrunk(extremes_[group], candidate);
        };
        scales_.resize(measured_.size());
        clip_.resize(measured_.size());
        for (std::size_t g = 0; g < measured_.size(); ++g)
            clip_[g] = shrunk(extremes_[g], candidate);
        choose_grids(clip_, bits_, options_, scales_);
        if (channels == 1) {
            for (std::size_t g = 0; g < measured_.size(); ++g)
                keep(g, kernels::rounding_error(x.data() + g * block, block,
                                                grid_of(scales_[g], clip_[g], bits_, options_.symmetry)));
            continue;
        }
        const std::size_t pattern = pattern_of(channels);
        spread_scales();
        for (std::size_t b = 0; b < blocks; ++b) {
            errors_.assign(pattern, 0.0);
            const auto grids = arrays_of(columns_.data() + b * kGridArrays * pattern, pattern);
            for (std::size_t i = 0; i < block; i += pattern)
                kernels::add_rounding_errors(x.data() + b * block + i, std::min(pattern, block - i), grids,
                                             errors_.data());
            for (std::size_t i = channels; i < pattern; ++i)
                errors_[i % channels] += errors_[i];
            for (std::size_t c = 0; c < channels; ++c)
                keep(b * channels + c, errors_[c]);
        }
    }
}

}  // namespace dither
