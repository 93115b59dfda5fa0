// How a quantizer finds the ranges and scales of a tensor.
#include "core/error.hpp"
#include "core/quantize/detail/grids.hpp"
#include "core/quantize/detail/kernels.hpp"
#include "core/quantize/quantizer.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <cmath>

namespace dither {
namespace {

/// Weight of the past in the moving average of a range.
constexpr float kRangeMemory = 0.9F;

ClipRange blend(const ClipRange& past, const ClipRange& now) {
    return {kRangeMemory * past.low + (1 - kRangeMemory) * now.low,
            kRangeMemory * past.high + (1 - kRangeMemory) * now.high};
}

}  // namespace

void throw_not_finite(std::span<const float> x) {
    const auto bad = std::find_if(x.begin(), x.end(), [](float value) { return !std::isfinite(value); });
    throw TrainingError(fmt::format("cannot quantize {}, the value at {} of {}", *bad, bad - x.begin(), x.size()));
}

void Quantizer::set_grid(std::span<const ScaleZero> grid) {
    grid_.assign(grid.begin(), grid.end());
}

void Quantizer::reset() {
    observed_.clear();
    grid_.clear();
}

Quantizer::Partition Quantizer::partition_of(std::size_t count, const QuantLayout& layout) const {
    const auto group = static_cast<std::size_t>(options_.group_size);
    const std::size_t summed = layout.sums_rows ? layout.rows : layout.columns;
    switch (options_.granularity) {
        case Granularity::per_tensor:
            break;
        case Granularity::per_channel:
            return {.blocks = 1, .block = count, .channels = layout.columns};
        case Granularity::per_sample:
            return {.blocks = layout.samples, .block = count / layout.samples, .channels = 1};
        case Granularity::per_group:
            require(group > 0 && summed % group == 0, "groups of {} do not divide the {} {} that are summed over",
                    group, summed, layout.sums_rows ? "rows" : "columns");
            if (layout.sums_rows)
                return {.blocks = layout.rows / group, .block = group * layout.columns, .channels = layout.columns};
            return {.blocks = count / group, .block = group, .channels = 1};
    }
    return {.blocks = 1, .block = count, .channels = 1};
}

/// Samples, and groups of activations, come and go with each batch.
bool Quantizer::remembers(const QuantLayout& layout) const {
    return options_.granularity != Granularity::per_sample &&
           (options_.granularity != Granularity::per_group || layout.sums_rows);
}

void Quantizer::measure(std::span<const float> x) {
    measured_.assign(partition_.groups(), ClipRange{});
    bool finite = true;
    if (partition_.channels == 1)
        finite = measure_runs(x);
    else
        for (std::size_t block = 0; block < partition_.blocks; ++block)
            finite &= measure_channels(x.subspan(block * partition_.block, partition_.block), block);
    if (!finite)
        throw_not_finite(x);
    if (options_.observer == Observer::percentile)
        cut_percentile(x);
    if (options_.observer == Observer::mse && !float_format(options_, bits_))
        cut_for_least_error(x);
}

bool Quantizer::measure_runs(std::span<const float> x) {
    const std::size_t size = partition_.block;
    const std::size_t count = measured_.size();
    bool finite = true;
    if (options_.granularity == Granularity::per_group) {
        bounds_.resize(2 * count);
        finite = kernels::group_extremes(x.data(), x.size(), size, bounds_.data(), bounds_.data() + count);
        for (std::size_t g = 0; g < count; ++g)
            measured_[g] = {bounds_[g], bounds_[g + count]};
        return finite;
    }
    for (std::size_t g = 0; g < count; ++g) {
        const kernels::Extremes found = kernels::extremes(x.data() + g * size, size);
        measured_[g] = {found.low, found.high};
        finite &= found.finite;
    }
    return finite;
}

bool Quantizer::measure_channels(std::span<const float> x, std::size_t block) {
    const std::size_t channels = partition_.channels;
    const std::size_t pattern = pattern_of(channels);
    bounds_.assign(2 * pattern, 0.0F);
    float* low = bounds_.data();
    float* high = low + pattern;
    bool finite = true;
    for (std::size_t i = 0; i < x.size(); i += pattern)
        finite &= kernels::widen(x.data() + i, std::min(pattern, x.size() - i), low, high);
    ClipRange* ranges = measured_.data() + block * channels;
    for (std::size_t i = 0; i < pattern; i += channels)
        for (std::size_t c = 0; c < channels; ++c)
            ranges[c] = {std::min(ranges[c].low, low[i + c]), std::max(ranges[c].high, high[i + c])};
    return finite;
}

void Quantizer::observe(std::span<const float> x, const QuantLayout& layout, bool update_range) {
    partition_ = partition_of(x.size(), layout);
    const bool remembered = remembers(layout);
    const std::size_t groups = partition_.groups();
    require(!remembered || observed_.empty() || observed_.size() == groups, "{} ranges observed, {} needed",
            observed_.size(), groups);
    if (remembered && !update_range && !observed_.empty()) {
        if (!all_finite(x))
            throw_not_finite(x);
        clip_ = observed_;
        return;
    }
    measure(x);
    if (!remembered || !update_range) {
        clip_ = measured_;
        return;
    }
    if (options_.observer == Observer::moving_average_minmax && !observed_.empty())
        for (std::size_t g = 0; g < groups; ++g)
            measured_[g] = blend(observed_[g], measured_[g]);
    observed_ = measured_;
    clip_ = observed_;
}

/// Raises each scale to the largest one divided by a power of two. Samples that are all zero have no scale of their
/// own.
void Quantizer::align_scales() {
    const auto zero = [&](std::size_t g) { return measured_[g] == ClipRange{}; };
    float largest = 0;
    for (std::size_t g = 0; g < scales_.size(); ++g)
        largest = zero(g) ? largest : std::max(largest, scales_[g].scale);
    for (std::size_t g = 0; g < scales_.size() && largest > 0; ++g) {
        const int halvings = zero(g) ? 0 : std::min(std::ilogb(largest / scales_[g].scale), kScaleSpan);
        scales_[g].scale = std::ldexp(largest, -halvings);
    }
    widen_to_codes(clip_, scales_, bits_, options_.symmetry);
}

void Quantizer::take_grid(std::span<const float> x) {
    require(grid_.size() == partition_.groups(), "a learned range gave {} scales, {} needed", grid_.size(),
            partition_.groups());
    if (!all_finite(x))
        throw_not_finite(x);
    scales_.assign(grid_.begin(), grid_.end());
    clip_.resize(scales_.size());
    for (std::size_t g = 0; g < clip_.size(); ++g)
        clip_[g] = code_reach(scales_[g], bits_, options_.symmetry);
}

void Quantizer::take_ranges(bool aligned) {
    scales_.resize(clip_.size());
    choose_grids(clip_, bits_, options_, scales_);
    widen_to_codes(clip_, scales_, bits_, options_.symmetry);
    if (aligned && options_.granularity == Granularity::per_sample && options_.symmetry == Symmetry::symmetric)
        align_scales();
}

void Quantizer::choose_scales(std::span<const float> x, const QuantLayout& layout, bool update_range) {
    if (is_learned(options_.observer)) {
        partition_ = partition_of(x.size(), layout);
        take_grid(x);
    } else {
        observe(x, layout, update_range);
        take_ranges(layout.sums_samples);
    }
    spread_scales();
}

/// What for_each_run hands to the kernels.
void Quantizer::spread_scales() {
    if (partition_.channels == 1) {
        if (options_.granularity != Granularity::per_group)
            return;
        columns_.resize(kGridArrays * scales_.size());
        spread_grids(scales_, clip_, bits_, options_.symmetry, scales_.size(), columns_.data());
        return;
    }
    const std::size_t channels = partition_.channels;
    const std::size_t pattern = pattern_of(channels);
    columns_.resize(partition_.blocks * kGridArrays * pattern);
    for (std::size_t block = 0; block < partition_.blocks; ++block)
        spread_grids(std::span(scales_).subspan(block * channels, channels),
                     std::span(clip_).subspan(block * channels, channels), bits_, options_.symmetry, pattern,
                     columns_.data() + block * kGridArrays * pattern);
}

/// One scale for all groups, whatever the granularity.
void Quantizer::choose_format_scale(FloatFormat format) {
    float largest = 0;
    for (const ClipRange& range : clip_)
        largest = std::max({largest, -range.low, range.high});
    const float scale = choose_float_scale(largest, format);
    const float bound = scale * limits_of(format).largest;
    scales_.assign(1, {.scale = scale});
    clip_.assign(1, {-bound, bound});
}

}  // namespace dither
